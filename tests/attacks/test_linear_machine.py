"""On the kernel machine of the linear kernel the nearest adversarial image is known in closed form."""

import pytest
import torch

import ntklens as nl

BOUNDS = (-100.0, 100.0)
"""So wide that the pixels' range does not matter."""


@pytest.fixture(scope="module")
def machine():
    data = nl.load_dataset("fashion-mnist-mini", classes=[2, 4]).first(120, 40)
    fitted = nl.KernelMachine(nl.LinearKernel(), nl.Ridge(1e-3)).fit(data.train.x.double(), data.train.y)
    x = data.test.x.double()
    return fitted, x, fitted.predict(x)


def found_radius(attack, machine, x, y, high: float) -> float:
    """The smallest radius at which the attack succeeds, by bisection."""
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2
        fooled = bool((machine.predict(attack(machine, x, y, middle)) != y).all())
        low, high = (low, middle) if fooled else (middle, high)
    return high


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize(("steps", "bound"), [(1, 1.01), (10, 1.05)])
def test_attacks_reach_the_optimal_distance(machine, norm, dual, steps, bound):
    fitted, x, y = machine
    w = (fitted.train_inputs.flatten(1).T @ fitted.coefficients)[:, 0]
    scale = fitted.outputs(x)[0, 0] / (x[0].flatten() @ w)  # of the kernel: <x, z> over something
    distances = (fitted.outputs(x)[:, 0] / (scale * torch.linalg.vector_norm(w, dual))).abs()

    def attack(model, image, label, eps):
        if steps == 1:
            return nl.fgsm(model, image, label, eps, norm, bounds=BOUNDS)
        return nl.pgd(model, image, label, eps, norm, steps, bounds=BOUNDS)

    ratios = [
        found_radius(attack, fitted, x[i : i + 1], y[i : i + 1], 2 * float(d)) / float(d)
        for i, d in enumerate(distances)
    ]
    assert min(ratios) > 1 - 1e-3
    assert max(ratios) < bound
