"""Step 1: make adversarial examples from a kernel alone, and compare them with noise of the same size.

Run it with `python examples/01_attack_without_training.py` (a few seconds; the first run compiles the kernels).
"""

import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import accuracy, noise

EPS = 8 / 255  # radius of the attack: each pixel, in [0, 1], changes by at most eight grey levels


def main() -> None:
    # Two kinds of clothes that are hard to tell apart: 1,200 training and 2,000 test images of 28x28 pixels.
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    x, y = data.test.x, data.test.y

    # An ordinary network. Its weights do not matter: the kernel depends on its operations alone, at infinite width.
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 1))

    # The kernel machine predicts like infinitely wide, fully trained networks. It is solved for, not trained.
    machine = nl.KernelMachine(nl.analytic_kernel(network)).fit(data.train.x, data.train.y)

    # `accuracy` prints with its 95 % interval. Noise of the same size is the control: the gap between the noise and
    # the attacks is what the direction of a perturbation does, beyond its size.
    x_noisy = noise(x, EPS, generator=torch.Generator().manual_seed(0))
    print("clean   ", accuracy(machine, x, y))
    print("noise   ", accuracy(machine, x_noisy, y))
    print("one step", accuracy(machine, nl.fgsm(machine, x, y, EPS), y))
    print("PGD     ", accuracy(machine, nl.pgd(machine, x, y, EPS, steps=10), y))


if __name__ == "__main__":
    main()
