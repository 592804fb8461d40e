"""Runs of networks that are no functions of single inputs."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from kernels.empirical.zoo import images

DTYPE = torch.float64


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(50, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x.flatten(1)), 0.5, self.training)


def batch_norm_without_statistics() -> nn.Module:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(2, 3, 5), norm, nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("make", "why"), [(Random, "depend on chance"), (batch_norm_without_statistics, "depend on the rest of the batch")]
)
def test_outputs_that_depend_on_more_than_the_input_are_refused(make, why):
    net = make().to(DTYPE)
    state = torch.random.get_rng_state()
    with pytest.raises(nl.InputError, match=why):
        nl.empirical_kernel(net)(images(3))
    assert torch.equal(state, torch.random.get_rng_state())
