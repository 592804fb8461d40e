"""Machines that are trained against attacks: their limits, their gradients, and that they resist more than their start."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.certificates import adversarial_flow, adversarial_ridge
from ntklens.certificates.adversarial import flow_coefficients, flow_gradient
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.linalg import Trained
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", train=160, test=60, size=14)
KERNEL = analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 1)))
X, V = DATA.train.x[:100], DATA.train.x[100:]
Y, W = (DATA.train.y > 4).long()[:100], (DATA.train.y > 4).long()[100:]
EPS = 8 / 255


def fitted(y=Y):
    return KernelMachine(KERNEL, nl.Ridge(0.0)).fit(X, y)


@pytest.mark.parametrize("outputs", [1, 3])
def test_coefficients_of_times_agree_with_the_published_form_and_their_gradient_with_differences(outputs):
    g = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=g, dtype=torch.float64)
    theta, times = root @ root.T / 12 + 0.1 * torch.eye(12), torch.rand(12, generator=g, dtype=torch.float64)
    y, cotangent = (torch.randn(12, outputs, generator=g, dtype=torch.float64) for _ in range(2))
    alpha = flow_coefficients(theta, times, y)
    published = torch.linalg.solve(theta, (torch.eye(12) - torch.matrix_exp(-theta * times)) @ y)
    assert alpha.numpy() == pytest.approx(published.numpy(), abs=1e-10)
    slope, step = flow_gradient(theta, times, y, cotangent), 1e-6
    for i in range(12):
        shift = torch.zeros(12, dtype=torch.float64)
        shift[i] = step
        up, down = (flow_coefficients(theta, times + s * shift, y) for s in (1, -1))
        assert float(slope[i]) == pytest.approx(float(((up - down) * cotangent).sum() / (2 * step)), rel=1e-6, abs=1e-8)


def test_equal_times_are_gradient_flow_and_long_ones_the_interpolation():
    machine = fitted()
    theta, one = machine.factorisation.matrix, torch.ones(100, dtype=torch.float64)
    early = machine.refilter(nl.GradientFlow(3.0))
    assert flow_coefficients(theta, 3 * one, machine.targets).numpy() == pytest.approx(
        early.coefficients.numpy(), abs=1e-8
    )
    late = flow_coefficients(theta, 1e9 * one, machine.targets)
    assert late.numpy() == pytest.approx(machine.coefficients.numpy(), rel=1e-5, abs=1e-6)


def test_without_an_attack_one_round_is_the_ridge_itself():
    machine = fitted()
    found = adversarial_ridge(machine, X, Y, 0.0, ridge=0.01, rounds=1)
    ridge = machine.refilter(nl.Ridge(0.01 * machine.factorisation.largest))
    assert found.outputs(DATA.test.x).numpy() == pytest.approx(ridge.outputs(DATA.test.x).numpy(), abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_both_resist_attacks_that_the_interpolation_does_not(classes):
    y, held = (Y, W) if classes == 2 else (DATA.train.y[:100] // 4, DATA.train.y[100:] // 4)
    machine = fitted(y)
    g = torch.Generator().manual_seed(0)
    ridge = adversarial_ridge(machine, X, y, EPS, ridge=1e-2, rounds=3, steps=4)
    flow = adversarial_flow(machine, V, held, EPS, generator=g, steps=12, attack_steps=3)
    test = (DATA.test.y > 4).long() if classes == 2 else DATA.test.y // 4
    before, *after = (
        nl.attack(m, DATA.test.x, test, EPS, steps=5, loss="margin").robust_accuracy.value
        for m in (machine, ridge, flow)
    )
    assert min(after) > before + 0.1
    assert ridge.filter == Trained("pooled adversarial ridge 0.01 λ_1, 3 rounds")
    assert flow.filter == Trained("Adv-NTK, 12 steps")


def test_the_same_seed_gives_the_same_machine():
    machine = fitted()
    one, other = (
        adversarial_flow(machine, V, W, EPS, generator=torch.Generator().manual_seed(3), steps=2, batch_size=16)
        for _ in range(2)
    )
    assert torch.equal(one.coefficients, other.coefficients)


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused():
    machine, g = fitted(), torch.Generator()
    with pytest.raises(InputError, match="ridge above 0"):
        adversarial_ridge(machine, X, Y, EPS, ridge=0.0)
    with pytest.raises(InputError, match="rounds"):
        adversarial_ridge(machine, X, Y, EPS, rounds=0)
    with pytest.raises(InputError, match="step_size above 0"):
        adversarial_flow(machine, V, W, EPS, generator=g, step_size=-1.0)
    with pytest.raises(InputError, match="generator"):
        adversarial_flow(machine, V, W, EPS, generator=3)
    tiled = KernelMachine(nl.RBFKernel(), nl.Ridge(0.1)).fit(X, Y, home=nl.MemoryHome())
    with pytest.raises(InputError, match="up to 4,096 training inputs"):
        adversarial_flow(tiled, V, W, EPS, generator=g)
