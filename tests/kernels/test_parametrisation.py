import math

import pytest
from torch import nn

from ntklens.errors import InputError
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
    with pytest.raises(InputError, match="must be finite"):
        Parametrisation(**values)


def test_a_layer_without_a_value_is_named():
    with pytest.raises(InputError, match="no value for the layer `2`"):
        Parametrisation(w_std={"0": 1.0}).of("2")
