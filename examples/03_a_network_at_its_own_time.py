"""Step 3: attack a trained network through the kernel machine, stopped at the network's own training time.

A wide network that is trained for a while behaves like the kernel machine at that time, not like the machine trained for
ever. Run it with `python examples/03_a_network_at_its_own_time.py` (a few seconds).
"""

import torch

import ntklens as nl
from ntklens.attacks import accuracy
from ntklens.networks import BinaryLogits, Centred, build, gradient_descent

EPS = 8 / 255
STEPS = 100
WIDTH = 1024


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    x, y = data.test.x, data.test.y
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1))).fit(data.train.x, data.train.y)

    # Gradient descent is stable up to a learning rate of 2 / λ_1, where λ_1 is the largest eigenvalue; take half of it.
    # `refilter` shares the factorisation of the kernel matrix, so that a machine at another time costs nothing.
    rate = 1 / float(machine.factorisation.spectrum.eigenvalues[0])
    matched = machine.refilter(nl.GradientDescent(STEPS, rate))

    # The victim: a finite network in the parametrisation of the kernel, trained by the same gradient descent. `Centred`
    # takes away its function at the start, which the machine does not have; its one output becomes two logits.
    network = nl.ntk_parametrize(build("fc1", data.shape, 1, width=WIDTH), generator=torch.Generator().manual_seed(0))
    targets = machine.targets.to(x)
    trained = gradient_descent(Centred(network), data.train.x, targets, steps=STEPS, learning_rate=rate)
    victim = BinaryLogits(trained)

    # The lower the accuracy of the victim, the stronger the attack. Only the white box has looked inside the victim.
    print("clean                ", accuracy(victim, x, y))
    print("kernel, t = infinity ", accuracy(victim, nl.fgsm(machine, x, y, EPS), y))
    print("kernel, matched time ", accuracy(victim, nl.fgsm(matched, x, y, EPS), y))
    print("white box            ", accuracy(victim, nl.fgsm(victim, x, y, EPS), y))


if __name__ == "__main__":
    main()
