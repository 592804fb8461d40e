"""Lower bounds of kernel expansions: sound against attacks and samples, exact where they can be, and as tight as stated."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.attacks import Threat
from ntklens.bounds import KernelBounds, linear
from ntklens.bounds.balls import balls
from ntklens.bounds.terms import secant_curvatures, terms
from ntklens.errors import NumericalFailure, UnsupportedLayer
from ntklens.kernels import LinearKernel, RBFKernel, analytic_kernel
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", train=120, test=12, size=14)


class Erf(nn.Module):
    """The error function."""

    def forward(self, x):
        return torch.erf(x)


def network(depth, bias=True, activation=nn.ReLU):
    layers = [nn.Flatten()]
    for place in range(depth):
        layers += [nn.Linear(196 if place == 0 else 8, 8, bias=bias), activation()]
    return nn.Sequential(*layers, nn.Linear(8, 1, bias=bias))


def kernel(depth, b_std):
    return analytic_kernel(network(depth, b_std > 0), b_std=b_std)


KERNELS = {(1, 0.1): kernel(1, 0.1), (3, 0.0): kernel(3, 0.0), (3, 0.1): kernel(3, 0.1), (2, 0.5): kernel(2, 0.5)}
KERNELS |= {
    ("erf", 0.3): analytic_kernel(network(2, activation=Erf), b_std=0.3),
    ("GELU", 0.1): analytic_kernel(network(1, activation=nn.GELU), b_std=0.1),
}


def training():
    """Return training images of two classes, two of them equal, in float64."""
    x, y = DATA.train.x[:80].double(), (DATA.train.y[:80] % 2).long()
    return torch.cat([x, x[3:4]]), torch.cat([y, y[3:4]])


def images():
    """Return test images, noise, a black one, a training image and one that is twice in the training data."""
    x, _ = training()
    noise = torch.rand(2, 1, 14, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([DATA.test.x[:3].double(), noise, torch.zeros(1, 1, 14, 14).double(), x[:1], x[3:4]])


@cache
def machines(k):
    fitted = KernelMachine(k, nl.Ridge(1e-3)).fit(*training())
    return {
        "ridge": fitted,
        "stopped": fitted.refilter(nl.GradientFlow(time=1.0)),
        "few features": nl.eigenfeatures(fitted).keep(range(8)),
    }


def least_found(machine, column, x, threat):
    """Return the least output that PGD, corners and inner points of the balls have."""
    g, function = torch.Generator().manual_seed(1), machine.expand(column, torch.float64)
    starts = torch.stack([x, threat.random_start(x, g)])
    z, about = starts.flatten(0, 1), x.repeat(2, 1, 1, 1)
    for _ in range(12):
        _, pullback = function.vjp(z)
        step = threat.ascend(pullback(torch.ones(len(z), 1, dtype=torch.float64)))
        z = threat.project(z - threat.eps / 4 * step, about)
    signs = torch.randint(0, 2, (8, *x.shape), generator=g) * 2.0 - 1
    corners = threat.project((x + threat.eps * signs.double()).flatten(0, 1), x.repeat(8, 1, 1, 1))
    everything = torch.cat([x, z, corners, threat.random_start(x, g)])
    return function(everything)[:, 0].reshape(-1, len(x)).amin(0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["ridge", "stopped", "few features"])
@pytest.mark.parametrize("key", KERNELS)
def test_no_bound_is_above_what_attacks_find(key, name, norm):
    machine = machines(KERNELS[key])[name]
    bounds = KernelBounds(KERNELS[key], machine.double_inputs)
    x = images()
    for eps in (4 / 255, 0.1) if norm == "linf" else (0.5,):
        threat = Threat(eps, norm)
        for sign in (1.0, -1.0):
            column = sign * machine.coefficients
            found = least_found(machine, column, x, threat)
            linear, quadratic = bounds.linear(x, threat, column)[:, 0], bounds.quadratic(x, threat, column[:, 0])
            assert (linear <= found + 1e-9).all()
            assert (quadratic <= found + 1e-9).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("key", KERNELS)
def test_a_small_ball_has_the_slope_of_the_gradient(key, norm, monkeypatch):
    monkeypatch.setattr(linear, "_SLACK", 0.0)  # which a small radius would divide
    machine = machines(KERNELS[key])["few features"]
    bounds, x = KernelBounds(KERNELS[key], machine.double_inputs), DATA.test.x[:3].double()
    # Away from the pixels' bounds nothing is clipped.
    x = 0.1 + 0.8 * x
    values, pullback = machine.expand(machine.coefficients, torch.float64).vjp(x)
    gradient = pullback(torch.ones(3, 1, dtype=torch.float64)).flatten(1)
    dual = gradient.abs().sum(1) if norm == "linf" else gradient.norm(dim=1)
    for tier in ("linear", "quadratic"):
        excess = []
        for eps in (1e-4, 1e-5):
            threat = Threat(eps, norm)
            if tier == "linear":
                bound = bounds.linear(x, threat, machine.coefficients)[:, 0]
            else:
                bound = bounds.quadratic(x, threat, machine.coefficients[:, 0])
            excess.append(((values[:, 0] - bound) / eps - dual) / dual)
        assert (excess[1] < 1e-3).all()
        assert (excess[1] > -1e-6).all()
        # What the slope misses is of second order: a tenth of the radius has about a tenth of it.
        assert (excess[1] < 0.2 * excess[0] + 1e-5).all()


def test_the_second_bound_is_the_tighter_one_and_a_larger_ball_is_never_better():
    machine = machines(KERNELS[3, 0.1])["ridge"]
    bounds, x = KernelBounds(KERNELS[3, 0.1], machine.double_inputs), DATA.test.x[:4].double()
    column = machine.coefficients
    for norm, radii in (("linf", (1 / 255, 4 / 255)), ("l2", (0.1, 0.4))):
        found = [bounds.quadratic(x, Threat(eps, norm), column[:, 0]) for eps in radii]
        assert (found[0] >= found[1]).all()
        for eps, second in zip(radii, found, strict=True):
            assert (second > bounds.linear(x, Threat(eps, norm), column)[:, 0]).all()


def test_biases_in_the_middle_cost_little():
    gaps = {}
    for key in ((3, 0.0), (3, 0.1)):
        machine = machines(KERNELS[key])["few features"]
        threat, x = Threat(8 / 255), DATA.test.x[:6].double()
        found = least_found(machine, machine.coefficients, x, threat)
        proved = KernelBounds(KERNELS[key], machine.double_inputs).quadratic(x, threat, machine.coefficients[:, 0])
        gaps[key] = float((found - proved).median())
    assert 0 < gaps[3, 0.1] < 2 * gaps[3, 0.0]


def test_columns_together_and_alone_images_together_and_alone():
    machine = machines(KERNELS[3, 0.1])["ridge"]
    features = nl.eigenfeatures(machine).eigenvectors[:, :5]
    bounds, x, threat = KernelBounds(KERNELS[3, 0.1], machine.double_inputs), images(), Threat(4 / 255)
    together = bounds.linear(x, threat, features)
    for i, j in itertools.product((0, 5, 7), range(5)):
        alone = bounds.linear(x[i : i + 1], threat, features[:, j : j + 1])
        assert float(alone) == pytest.approx(float(together[i, j]), abs=1e-12)
    small = KernelBounds(KERNELS[3, 0.1], machine.double_inputs, memory_limit=1)
    assert small.linear(x, threat, features).numpy() == pytest.approx(together.numpy(), abs=1e-12)


def test_a_linear_kernel_is_bounded_exactly():
    x = torch.tensor([[0.2, 0.7], [0.9, 0.4], [0.3, 0.3]], dtype=torch.float64)
    column = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    w = column @ x / 2
    bounds, at = KernelBounds(LinearKernel(), x), torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    linf = bounds.linear(at, Threat(0.1), column[:, None])
    assert float(linf) == pytest.approx(float(at[0] @ w - 0.1 * w.abs().sum()), abs=1e-11)
    l2 = bounds.quadratic(at, Threat(0.1, "l2"), column)
    assert float(l2) == pytest.approx(float(at[0] @ w - 0.1 * w.norm()), abs=1e-11)


def test_a_ball_about_the_origin_has_no_bound():
    machine = machines(KERNELS[3, 0.0])["ridge"]
    bounds = KernelBounds(KERNELS[3, 0.0], machine.double_inputs)
    black = torch.zeros(1, 1, 14, 14, dtype=torch.float64)
    assert bounds.linear(black, Threat(0.1), machine.coefficients) == -torch.inf
    assert bounds.quadratic(black, Threat(0.1, "l2"), machine.coefficients[:, 0]) == -torch.inf


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_ball_of_one_point_has_its_value(norm):
    machine = machines(KERNELS[3, 0.1])["ridge"]
    bounds, x = KernelBounds(KERNELS[3, 0.1], machine.double_inputs), DATA.test.x[:2].double()
    values = machine.expand(machine.coefficients, torch.float64)(x)[:, 0]
    found = bounds.quadratic(x, Threat(0.0, norm), machine.coefficients[:, 0])
    assert (found <= values).all()
    assert found.numpy() == pytest.approx(values.numpy(), abs=1e-5)


def test_a_black_training_input_adds_nothing_without_biases():
    x, black = DATA.train.x[:9].double(), torch.zeros(1, 1, 14, 14, dtype=torch.float64)
    column = torch.linspace(-1, 1, 10, dtype=torch.float64)
    with_it = KernelBounds(KERNELS[3, 0.0], torch.cat([x[:4], black, x[4:]]))
    alone, at = KernelBounds(KERNELS[3, 0.0], x), DATA.test.x[:2].double()
    others = column[[0, 1, 2, 3, 5, 6, 7, 8, 9]]
    for norm in ("linf", "l2"):
        found, expected = (b.quadratic(at, Threat(0.02, norm), c) for b, c in ((with_it, column), (alone, others)))
        assert torch.equal(found, expected)
        assert found.isfinite().all()
    late = analytic_kernel(network(2), b_std=[0.0, 0.3, 0.3])
    with pytest.raises(UnsupportedLayer, match="training input 9 is black, and the first layer has no biases"):
        KernelBounds(late, torch.cat([x, black]))


def test_opposite_training_inputs_have_bounds():
    x = torch.linspace(-0.9, 0.8, 7, dtype=torch.float64)[:, None] * torch.tensor([0.3, 0.7, 0.9], dtype=torch.float64)
    net = nn.Sequential(nn.Linear(3, 8, bias=False), nn.LeakyReLU(-0.5), nn.Linear(8, 1, bias=False))
    bounds = KernelBounds(analytic_kernel(net, b_std=0.0), x)
    at, column = torch.full((1, 3), 0.5, dtype=torch.float64), torch.ones(7, dtype=torch.float64)
    value = float(analytic_kernel(net, b_std=0.0)(at, x).sum())
    assert value - 0.3 < float(bounds.quadratic(at, Threat(0.01, bounds=(-1, 1)), column)) < value


@pytest.mark.parametrize("slope", [0.0, 0.9])
def test_rounding_leaves_secant_curvatures_in_a_part_of_a_ball(slope):
    """R(t) is 2 ∫ (1-u) k''(c + u t) du; what it is above that, t² makes the larger the farther the part reaches."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(300, 4, generator=g, dtype=torch.float64)
    net = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(slope), nn.Linear(8, 1))
    bounds = KernelBounds(analytic_kernel(net), x)
    centre = torch.full((1, 4), 0.5, dtype=torch.float64)
    found = terms(bounds.profile, bounds.training, balls(centre, Threat(0.15)))
    used = found.reach > 0
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(12))
    for t in (2.1e-4, -2.1e-4, 1e-3, 0.01):
        low = torch.minimum(torch.full_like(found.reach, t), found.reach)
        lowest, _ = secant_curvatures(bounds.profile, found, bounds.training, low, found.reach)
        exact = torch.zeros_like(low)
        for u, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            at = torch.where(used, found.cosines + u * low, 0.5)
            _, _, curve = bounds.profile.along(at, found.length[:, None], bounds.training.norms)
            exact += 2 * weight * (1 - u) * curve
        above = (lowest - exact)[used] * found.reach[used].square() / 2
        assert (above < 1e-11 * found.value[used]).all()


def test_no_images_have_no_bounds():
    machine = machines(KERNELS[1, 0.1])["ridge"]
    bounds, none = KernelBounds(KERNELS[1, 0.1], machine.double_inputs), DATA.test.x[:0].double()
    assert bounds.linear(none, Threat(0.1), machine.coefficients).shape == (0, 1)
    assert bounds.quadratic(none, Threat(0.1), machine.coefficients[:, 0]).shape == (0,)


def test_the_covariance_of_a_network_is_bounded_too():
    prior = KERNELS[2, 0.5].prior
    machine = KernelMachine(prior, nl.Ridge(0.1)).fit(*training())
    threat, x = Threat(4 / 255), DATA.test.x[:4].double()
    found = least_found(machine, machine.coefficients, x, threat)
    proved = KernelBounds(prior, machine.double_inputs).quadratic(x, threat, machine.coefficients[:, 0])
    assert (proved <= found).all()
    assert (proved > found - 0.1).all()


def test_kernels_without_a_bound_are_refused():
    with pytest.raises(UnsupportedLayer, match=r"no certificate for a machine on RBFKernel.*nl\.smooth"):
        KernelBounds(RBFKernel(), torch.rand(3, 4, dtype=torch.float64))


def test_a_kernel_that_is_not_what_its_graph_says_is_refused(monkeypatch):
    k = kernel(2, 0.1)
    monkeypatch.setattr(type(k), "__call__", lambda self, a, b: 1.01 * KERNELS[3, 0.1].between(a, b))
    with pytest.raises(NumericalFailure, match=r"differs by .* nothing can be certified"):
        KernelBounds(k, DATA.train.x[:10].double())


def test_the_second_bound_nearly_meets_the_attack_where_the_first_order_is_positive():
    """Of images that an attack leaves right, next to all are proved, those with a margin near zero included."""
    machine = machines(KERNELS[1, 0.1])["few features"]
    bounds, column = KernelBounds(KERNELS[1, 0.1], machine.double_inputs), machine.coefficients
    x = DATA.test.x.double()
    sign = torch.sign(machine.outputs(x)[:, 0])
    open_ = proved = 0
    for eps in (0.06, 0.09, 0.12, 0.15):
        threat = Threat(eps)
        both = bounds.linear(x, threat, torch.cat([column, -column], 1))
        first = torch.where(sign > 0, both[:, 0], both[:, 1])
        found = torch.stack([least_found(machine, s * column, x, threat) for s in (1.0, -1.0)], 1)
        found = torch.where(sign > 0, found[:, 0], found[:, 1])
        for i in ((found > 0) & (first <= 0)).nonzero().flatten().tolist():
            bound = float(bounds.quadratic(x[i : i + 1], threat, sign[i] * column[:, 0]))
            assert bound <= found[i] + 1e-9
            open_, proved = open_ + 1, proved + (bound > 0)
    assert open_ >= 3
    assert proved >= 0.3 * open_
