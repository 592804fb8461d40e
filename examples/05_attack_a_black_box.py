"""Step 5: attack a network that only answers with its outputs, without training a surrogate.

All that is needed are samples of the data and some queries. The command `ntklens attack --victim ... --surrogate fc3` does
the same for a network in a file. Run it with `python examples/05_attack_a_black_box.py` (about half a minute).
"""

import torch

import ntklens as nl
from ntklens.attacks import accuracy, noise
from ntklens.networks import build, train
from ntklens.transfer import search_time, surrogate

EPS = 16 / 255


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat", "Shirt"])
    x, y = data.test.x, data.test.y
    generator = torch.Generator().manual_seed(0)

    # Somebody else's network: a small convolutional one. From here on it is only asked for outputs.
    torch.manual_seed(0)
    victim = train(
        build("small-cnn", data.shape, 3, width=16),
        data.train.x,
        data.train.y,
        epochs=15,
        batch_size=50,
        learning_rate=0.05,
        generator=generator,
    ).eval()

    # Our surrogate: the kernel machine of three dense layers, fitted on 900 samples. Nothing is trained.
    samples, aside = slice(0, 900), slice(900, 1000)
    machine = surrogate("ntk:fc3", data.train.x[samples], data.train.y[samples], classes=3).model

    # A hundred images set aside tell at which training time the machine's images fool the victim most.
    best = search_time(machine, victim, data.train.x[aside], data.train.y[aside], EPS, "linf")
    machine = machine.refilter(best.filter)
    print(f"the search took {best.queries} queries and fooled {100 * best.fooled:.0f} % of the images set aside")

    x_adv = nl.pgd(machine, x, y, EPS, steps=10, loss="margin")
    print("clean             ", accuracy(victim, x, y))
    print("noise             ", accuracy(victim, noise(x, EPS, generator=generator), y))
    print("kernel, no training", accuracy(victim, x_adv, y))
    print("white box         ", accuracy(victim, nl.pgd(victim, x, y, EPS, steps=10, loss="margin"), y))


if __name__ == "__main__":
    main()
