import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels import networks
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.kernels.parametrisation import Parametrisation, fan_in


def test_scales_of_a_layer():
    p = Parametrisation(w_std=1.5, b_std={"0": 0.2})
    assert p.weight_scale("0", nn.Linear(9, 4)) == pytest.approx(0.5)
    assert p.bias_scale("0") == 0.2


@pytest.mark.parametrize(
    ("layer", "count"), [(nn.Linear(5, 2), 5), (nn.Conv2d(3, 8, (3, 5)), 45), (nn.Conv1d(4, 8, 3, groups=2), 6)]
)
def test_fan_in(layer, count):
    assert fan_in(layer) == count


@pytest.mark.parametrize("values", [{"w_std": 0.0}, {"w_std": -1.0}, {"b_std": -0.1}, {"b_std": math.inf}])
def test_values_that_do_not_fit(values):
    with pytest.raises(InputError, match="to be finite and"):
        Parametrisation(**values)


def test_a_layer_without_a_value_is_named():
    with pytest.raises(InputError, match="no value for the layer `2`"):
        Parametrisation(w_std={"0": 1.0}).of("2")


def test_what_a_user_may_give_as_parametrisation():
    net, own = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), Parametrisation(1.5, 0.2)
    assert Parametrisation.of_module(net) == Parametrisation()
    assert Parametrisation.of_module(net, [1.0, 2.0], parametrisation="standard") == Parametrisation(
        {"0": 1.0, "2": 2.0}, kind="standard"
    )
    assert Parametrisation.of_module(net, parametrisation=own) is own
    with pytest.raises(InputError, match="either as arguments or in the Parametrisation; got both"):
        Parametrisation.of_module(net, b_std=0.0, parametrisation=own)
    with pytest.raises(InputError, match='expected the parametrisation "ntk" or "standard"; got "mean field"'):
        Parametrisation.of_module(net, parametrisation="mean field")


def test_standard_deviations_in_the_order_of_the_layers():
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = networks.dense(F.relu)
    torch.testing.assert_close(
        analytic_kernel(net, [1.0, 2.0], [0.0, 0.1])(x),
        analytic_kernel(net, {"h0": 1.0, "out": 2.0}, {"h0": 0.0, "out": 0.1})(x),
    )
    with pytest.raises(InputError, match="one value for each of the 2 layers"):
        analytic_kernel(net, [1.0, 2.0, 3.0])
