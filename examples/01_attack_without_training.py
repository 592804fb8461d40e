"""Adversarial examples from the kernel alone, against the kernel machine and against noise of the same size."""

import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import accuracy, noise

EPS = 8 / 255


def main() -> None:
    data = nl.load_dataset("fashion-mnist-mini", classes=["Pullover", "Coat"])
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 1))
    machine = nl.KernelMachine(nl.analytic_kernel(net)).fit(data.train.x, data.train.y)
    x, y = data.test.x, data.test.y
    print("clean   ", accuracy(machine, x, y))
    print("noise   ", accuracy(machine, noise(x, EPS, generator=torch.Generator().manual_seed(0)), y))
    print("one step", accuracy(machine, nl.fgsm(machine, x, y, EPS), y))
    print("PGD     ", accuracy(machine, nl.pgd(machine, x, y, EPS, steps=10), y))


if __name__ == "__main__":
    main()
