"""Networks of other people's making: understood as they are, or refused with what to do."""

import pytest
import torch
from torch import nn

import ntklens as nl
from kernels import foreign


def images(*shape: int):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


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
    kernel, x = nl.analytic_kernel(make()), images(*shape)
    drawn = kernel.monte_carlo(x, width=64, draws=12)
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    assert float((drawn.mean - truth).norm() / truth.norm()) < 0.25


REFUSED = {
    "identity shortcut after an activation": (foreign.ResNet, (3, 8, 8), "1x1 convolution on the shortcut"),
    "mixer": (foreign.Mixer, (3, 16, 16), "dense layers over patches or tokens have no rule"),
    "bare matrices": (foreign.ByHand, (1, 4, 4), "a weight must be that of a Linear or Conv layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_what_to_do(name):
    make, shape, message = REFUSED[name]
    with pytest.raises(nl.UnsupportedLayer, match=message) as error:
        nl.analytic_kernel(make().eval())(images(*shape))
    assert "ntklens.empirical_kernel(module)" in str(error.value)


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
    kernel, x = nl.analytic_kernel(Shortcut(late=False), b_std=0.0), images(1, 4, 4)
    drawn = kernel.monte_carlo(x, width=512, draws=16)
    assert float(((drawn.mean - kernel(x)) / drawn.standard_error).abs().max()) < 4.5
    plain = nl.analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1)), b_std=0.0)
    torch.testing.assert_close(kernel(x, kind="nngp"), 3 * plain(x, kind="nngp"))


def test_a_sum_of_an_activation_and_its_own_input_is_refused():
    with pytest.raises(nl.UnsupportedLayer, match="share a layer's output"):
        nl.analytic_kernel(Shortcut(late=True))(images(1, 4, 4))
