"""The handlers of layers: kernels of networks of many kinds against the peer's values and against draws of networks.

Networks for which the peer has a rule are held to its values; the others to the mean of drawn finite networks.
"""

import pytest
import torch
from torch import nn

from kernels import foreign, networks
from ntklens.errors import UnsupportedLayer
from ntklens.kernels import analytic_kernel


def worst(value, truth):
    return float((value.double() - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("name", networks.PEER)
def test_peer(name, engine, dtype, tolerance):
    kernel = analytic_kernel(networks.PEER[name](), engine=engine)
    truth = networks.peer_values(name)
    x1, x2, weights = (truth[key].to(dtype) for key in ("x1", "x2", "w"))
    nngp, ntk = kernel(x1, x2, ("nngp", "ntk"))
    assert worst(nngp, truth["nngp"]) < tolerance
    assert worst(ntk, truth["ntk"]) < tolerance
    assert worst(kernel.gradient(x1, x2, weights), truth["grad"]) < tolerance


def images(*shape: int):
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", networks.DRAWN)
def test_draws(name):
    """16 networks of width 128, one fixed seed; z-scores of the mean below 4.5 for the six values."""
    shape, make = networks.DRAWN[name]
    kernel, x = analytic_kernel(make()), images(*shape)
    drawn = kernel.monte_carlo(x, width=128, draws=16)
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    assert float((drawn.mean - truth).norm() / truth.norm()) < 0.2


UNDERSTOOD = {
    "residual blocks": (lambda: foreign.ResNet(project_all=True).eval(), (3, 8, 8)),
    "myrtle10": (foreign.myrtle10, (3, 8, 8)),
    "lenet": (foreign.LeNet, (1, 28, 28)),
    "everything in the forward": (lambda: foreign.Everything().eval(), (3, 16, 16)),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_understood_as_it_is(name):
    """12 networks of width 64; z-scores of the mean kernel below 4.5."""
    make, shape = UNDERSTOOD[name]
    kernel, x = analytic_kernel(make()), images(*shape)
    drawn = kernel.monte_carlo(x, width=64, draws=12)
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    assert float((drawn.mean - truth).norm() / truth.norm()) < 0.25


def test_batch_norm_at_initialisation_is_a_constant_and_after_training_refused():
    x = images(1, 5, 5)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1.0), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    half = analytic_kernel(plain, b_std=0.0)(x) / 2
    torch.testing.assert_close(analytic_kernel(net, b_std=0.0)(x), half, rtol=1e-12, atol=0)
    net.train()
    net(x.float())
    with pytest.raises(UnsupportedLayer, match="statistics differ between the channels"):
        analytic_kernel(net)


class Shortcut(nn.Module):
    """An activation's output carried past a layer, with no activation on the sum."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.stem, self.block, self.out = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.late = late

    def forward(self, x):
        z = self.stem(x.flatten(1))
        h = torch.relu(z)
        return self.out(h + (z if self.late else self.block(h)))


def test_a_sum_with_an_activations_output_is_exact_before_a_layer():
    """K = K_h + K_block, read by the last layer alone."""
    kernel, x = analytic_kernel(Shortcut(late=False), b_std=0.0), images(1, 4, 4)
    drawn = kernel.monte_carlo(x, width=512, draws=16)
    assert float(((drawn.mean - kernel(x)) / drawn.standard_error).abs().max()) < 4.5
    plain = analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1)), b_std=0.0)
    torch.testing.assert_close(kernel(x, kind="nngp"), 3 * plain(x, kind="nngp"))


def test_a_sum_of_an_activation_and_its_own_input_is_refused():
    with pytest.raises(UnsupportedLayer, match="share a layer's output"):
        analytic_kernel(Shortcut(late=True))(images(1, 4, 4))
