"""Gradient flow of the cross-entropy: against an integrator of high order, in its limits, and as a machine's filter."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import ntklens as nl
from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import CrossEntropy, cross_entropy_flow, describe, described
from ntklens.linalg import cross_entropy as module
from ntklens.linalg.cross_entropy import residual
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", train=60, test=40, size=14)
X, Y = DATA.train.x, DATA.train.y


def machine(y, filter):
    return KernelMachine(nl.RBFKernel(0.3), filter).fit(X, y)


def reference(theta, targets, time):
    def slope(_, a):
        a = torch.from_numpy(a).reshape(targets.shape)
        return residual(theta @ a, targets).numpy().ravel()

    found = solve_ivp(slope, (0, time), np.zeros(targets.numel()), method="DOP853", rtol=1e-11, atol=1e-13)
    return torch.from_numpy(found.y[:, -1]).reshape(targets.shape)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("time", [0.01, 1.0, 100.0])
def test_coefficients_agree_with_an_integrator_of_eighth_order(time, classes):
    y = Y % classes
    found = machine(y, CrossEntropy(time))
    exact = reference(found.factorisation.matrix, found.targets, time)
    error = float((found.coefficients - exact).norm() / exact.norm())
    assert error < 1e-6
    assert error < 2 * found.solution.error < 1e-5
    assert found.solution.iterations > 0


def test_the_slope_is_minus_the_gradient_of_the_loss():
    g = torch.Generator().manual_seed(0)
    for classes in (2, 5):
        y = torch.arange(8) % classes
        f = torch.randn(8, 1 if classes == 2 else classes, generator=g, dtype=torch.float64, requires_grad=True)
        logits = torch.cat([-f / 2, f / 2], 1) if classes == 2 else f
        loss = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, f)
        targets = nl.KernelMachine(nl.RBFKernel()).fit(torch.rand(8, 3, generator=g), y).targets
        assert residual(f.detach(), targets).numpy() == pytest.approx(-gradient.numpy(), abs=1e-12)


def test_a_short_time_is_one_step_and_no_time_is_nothing():
    found = machine(Y % 2, CrossEntropy(1e-6))
    assert found.coefficients.numpy() == pytest.approx((0.5e-6 * found.targets).numpy(), rel=1e-3)
    assert not machine(Y % 2, CrossEntropy(0.0)).coefficients.any()


def test_a_learning_rate_is_a_scale_of_time():
    one, other = machine(Y % 2, CrossEntropy(2.0)), machine(Y % 2, CrossEntropy(0.5, learning_rate=4.0))
    assert torch.equal(one.coefficients, other.coefficients)


def test_longer_training_fits_more_and_the_machine_is_one_like_any_other(tmp_path):
    early = machine(Y, CrossEntropy(0.1))
    late = early.refilter(CrossEntropy(100.0))
    assert late.score(X, Y) > early.score(X, Y)
    late.save(tmp_path / "machine.safetensors")
    loaded = KernelMachine.load(tmp_path / "machine.safetensors")
    assert loaded.filter == CrossEntropy(100.0)
    assert torch.equal(loaded.outputs(DATA.test.x), late.outputs(DATA.test.x))
    assert nl.fgsm(late, DATA.test.x, DATA.test.y, 0.03).shape == DATA.test.x.shape
    assert described(describe(CrossEntropy(2.0, 0.5))) == CrossEntropy(2.0, 0.5)
    with pytest.raises(InputError, match="on the cross-entropy for the time 100"):
        nl.label_flips(late, DATA.test.x)
    with pytest.raises(InputError, match="on the cross-entropy"):
        late.predict(DATA.test.x, return_std=True)


def test_tiles_and_copies_of_images_give_the_same_machine():
    x, y = torch.cat([X, X[:3]]), torch.cat([Y, Y[:3]])
    whole = KernelMachine(nl.RBFKernel(0.3), CrossEntropy(5.0)).fit(x, y)
    tiled = KernelMachine(nl.RBFKernel(0.3), CrossEntropy(5.0)).fit(x, y, home=nl.MemoryHome())
    assert tiled.outputs(DATA.test.x).numpy() == pytest.approx(whole.outputs(DATA.test.x).numpy(), abs=1e-5)


@pytest.mark.usefixtures("untyped")
def test_what_has_no_cross_entropy_is_refused():
    with pytest.raises(InputError, match="expected y as class indices, on which a cross-entropy is defined"):
        machine(torch.linspace(0, 1, 60)[:, None], CrossEntropy(1.0))
    for time in (-1.0, float("inf"), float("nan"), "x"):
        with pytest.raises(InputError, match="time"):
            CrossEntropy(time)
    with pytest.raises(InputError, match="learning rate"):
        CrossEntropy(1.0, 0.0)


def test_a_flow_of_too_many_steps_is_a_failure(monkeypatch):
    monkeypatch.setattr(module, "_MOST_STEPS", 3)
    with pytest.raises(NumericalFailure, match=r"not found in 3 steps.*Take a shorter time"):
        cross_entropy_flow(lambda a: 10 * a, torch.tensor([[1.0], [-1.0]], dtype=torch.float64), 10.0, 1e6)
