"""A finite network in the lazy regime, attacked by the kernel machine stopped at the network's own training time."""

import torch

import ntklens as nl
from ntklens.attacks import accuracy
from ntklens.networks import BinaryLogits, Centred, build, gradient_descent

EPS, STEPS, WIDTH = 8 / 255, 100, 1024


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    x, y = data.test.x, data.test.y
    machine = nl.KernelMachine(nl.analytic_kernel(build("fc1", data.shape, 1))).fit(data.train.x, data.train.y)
    rate = 1 / float(machine.factorisation.spectrum.eigenvalues[0])
    matched = machine.refilter(nl.GradientDescent(STEPS, rate))

    plain = build("fc1", data.shape, 1, width=WIDTH)
    network = nl.ntk_parametrize(plain, generator=torch.Generator().manual_seed(0))
    targets = machine.targets.to(x)
    trained = gradient_descent(Centred(network), data.train.x, targets, steps=STEPS, learning_rate=rate)
    victim = BinaryLogits(trained)
    print("clean                ", accuracy(victim, x, y))
    print("kernel, t = infinity ", accuracy(victim, nl.fgsm(machine, x, y, EPS), y))
    print("kernel, matched time ", accuracy(victim, nl.fgsm(matched, x, y, EPS), y))
    print("white box            ", accuracy(victim, nl.fgsm(victim, x, y, EPS), y))


if __name__ == "__main__":
    main()
