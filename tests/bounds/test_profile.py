"""The kernel as a function of three numbers: against the kernel itself, differences, and samples of boxes."""

import pytest
import torch
from torch import nn

from ntklens.bounds.intervals import Interval
from ntklens.bounds.profile import Profile
from ntklens.bounds.terms import Training
from ntklens.errors import UnsupportedLayer
from ntklens.kernels import analytic_kernel


class Residual(nn.Module):
    """Two branches that are added, and a factor."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        h = self.first(x)
        return self.last(torch.relu(0.5 * (h + self.second(torch.relu(h)))))


class Erf(nn.Module):
    """The error function."""

    def forward(self, x):
        return torch.erf(x)


def dense(depth, activation=nn.ReLU, bias=True):
    sizes = [12] + [8] * depth
    layers = [layer for a in sizes[:-1] for layer in (nn.Linear(a, 8, bias=bias), activation())]
    return nn.Sequential(*layers, nn.Linear(8, 1, bias=bias))


NETWORKS = {
    "one layer with biases": (dense(1), {}),
    "three layers without biases": (dense(3, bias=False), {"b_std": 0.0}),
    "three layers with biases": (dense(3), {"b_std": 0.3}),
    "LeakyReLU": (dense(2, lambda: nn.LeakyReLU(0.2)), {"w_std": 1.1}),
    "a layer of its own standard deviations": (dense(2), {"w_std": [1.0, 1.4, 0.7], "b_std": [0.2, 0.0, 0.5]}),
    "erf": (dense(2, Erf), {"b_std": 0.3}),
    "erf, without biases": (dense(1, Erf, bias=False), {"b_std": 0.0, "w_std": 1.0}),
    "GELU": (dense(2, nn.GELU), {"b_std": 0.3}),
    "ReLU, erf and GELU": (
        nn.Sequential(*dense(1)[:2], nn.Linear(8, 8), Erf(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 1)),
        {},
    ),
    "residual": (Residual(), {"b_std": 0.2}),
    "standard parametrisation": (dense(2), {"parametrisation": "standard"}),
    "images": (nn.Sequential(nn.Flatten(), dense(2)), {}),
}


def profile_of(name, kind="ntk"):
    net, options = NETWORKS[name]
    kernel = analytic_kernel(net, **options)
    shape = (3, 2, 2) if name == "images" else (12,)
    return kernel, Profile(kernel.graph(shape), kind), shape


def inputs(shape, n=6, seed=0):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_form_that_is_bounded_is_the_kernel(name, kind):
    kernel, profile, shape = profile_of(name, kind)
    x, z = inputs(shape), inputs(shape, 5, 1)
    a, b = Training.of(x, profile), Training.of(z, profile)
    cosines = a.units @ b.units.T + profile.first.b_std**2 / (a.norms[:, None] * b.norms)
    value, _, _ = profile.along(cosines, a.norms[:, None], b.norms)
    ours = value * a.norms[:, None] * b.norms + profile.offset
    assert ours == pytest.approx(kernel(x, z, kind).numpy(), rel=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_agree_with_differences_and_grow(name):
    _, profile, _ = profile_of(name)
    y, norm_x, norm_z = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), torch.tensor(0.7), torch.tensor(0.9)
    step = 1e-5
    value, slope, curvature = profile.along(y, norm_x, norm_z)
    up, down = (profile.along(y + s * step, norm_x, norm_z)[0] for s in (1, -1))
    assert slope == pytest.approx(((up - down) / (2 * step)).numpy(), rel=1e-6)
    assert curvature == pytest.approx(((up + down - 2 * value) / step**2).numpy(), rel=1e-3)
    # Power series without negative coefficients: everything is positive and grows.
    for part in (value, slope, curvature):
        assert (part >= 0).all()
        assert (part.diff() >= 0).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_in_three_variables_agree_with_differences(name):
    _, profile, _ = profile_of(name)
    y, rho, norm_z, step = 0.6, 0.8, torch.tensor([0.9], dtype=torch.float64), 1e-4

    def value(y, r, beta):
        point = (Interval(*(torch.tensor([v], dtype=torch.float64),) * 2) for v in (y, r, beta))
        enclosed = profile.enclosed(*point, norm_z)
        assert float(enclosed.high - enclosed.low) < 1e-12 * float(enclosed.high)
        return float(enclosed.low)

    small = (torch.tensor([1e-9], dtype=torch.float64),) * 3
    jet, box = profile.about(
        torch.tensor([y], dtype=torch.float64), torch.tensor([rho], dtype=torch.float64), norm_z, small
    )
    centre = (y, 0.0, 1 / rho)
    for i in range(3):
        shifted = [(*centre[:i], centre[i] + s * step, *centre[i + 1 :]) for s in (1, -1)]
        difference = (value(*shifted[0]) - value(*shifted[1])) / (2 * step)
        assert float(jet.first[i]) == pytest.approx(difference, rel=1e-5, abs=1e-8 * value(*centre))
        second = (value(*shifted[0]) + value(*shifted[1]) - 2 * value(*centre)) / step**2
        assert float(jet.derivative(i, i)) == pytest.approx(second, rel=1e-3, abs=1e-4 * value(*centre))
        assert float(box.first[i].low) <= float(jet.first[i]) <= float(box.first[i].high)


@pytest.mark.parametrize("name", NETWORKS)
def test_boxes_enclose_every_sample(name):
    _, profile, _ = profile_of(name)
    g = torch.Generator().manual_seed(0)
    c, rho = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64)
    reach = tuple(torch.tensor([s], dtype=torch.float64) for s in (0.08, 0.02, 0.1))
    norm_z = torch.tensor([1.1], dtype=torch.float64)
    _, box = profile.about(c, rho, norm_z, reach)
    draws = torch.rand(3, 500, generator=g, dtype=torch.float64)
    y, r = c + (2 * draws[0] - 1) * reach[0], draws[1] * reach[1]
    beta = 1 / rho + (2 * draws[2] - 1) * reach[2]
    nothing = torch.zeros_like(y)
    # The recursion at any r: a box of one point.
    sample, _ = profile.about(y, 1 / beta, norm_z, (nothing, nothing, nothing))
    inside = profile.enclosed(*(Interval(v, v) for v in (y, r, beta)), norm_z)
    assert (inside.low <= box.value.high).all()
    assert (inside.high >= box.value.low).all()
    for i in (0, 2):
        assert (sample.first[i] <= box.first[i].high).all()
        assert (sample.first[i] >= box.first[i].low).all()
    assert (sample.derivative(0, 2) <= box.derivative(0, 2).high).all()
    assert (sample.derivative(0, 2) >= box.derivative(0, 2).low).all()


def test_only_networks_with_biases_in_the_middle_depend_on_the_length():
    flags = {name: profile_of(name)[1].is_homogeneous for name in NETWORKS}
    assert flags["one layer with biases"]
    assert flags["three layers without biases"]
    assert not flags["three layers with biases"]
    assert not flags["residual"]


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)), (1, 4, 4), "Conv"),
        (dense(2, nn.Tanh), (12,), "tanh"),
        (dense(1, nn.Softplus), (12,), "softplus"),
        (nn.Sequential(nn.Linear(12, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1)), (12,), "LayerNorm"),
    ],
)
def test_other_networks_are_refused_by_name(net, shape, named):
    graph = analytic_kernel(net).graph(shape)
    with pytest.raises(UnsupportedLayer, match=rf"(?i)no certificate for .*{named}.*nl\.smooth"):
        Profile(graph)
