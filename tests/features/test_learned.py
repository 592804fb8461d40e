"""What is learned of each feature, and when."""

import math

import pytest
import torch

import ntklens as nl
from ntklens.features import half_learned, over_bands, predicted_share, share_learned
from ntklens.networks import Centred, build, gradient_descent, ntk_parametrize


@pytest.mark.parametrize("fixture", ["binary", "ten"])
def test_what_a_machine_has_learned_of_each_feature_is_its_filter(request, fixture):
    features, data = request.getfixturevalue(fixture)
    flow = nl.GradientFlow(3.0, 0.02)
    shares = share_learned(features, features.machine.refilter(flow).outputs(data.train.x.double()))
    strong = features.label_energy > 1e-4
    torch.testing.assert_close(shares[strong], predicted_share(features, flow)[strong], rtol=1e-6, atol=1e-8)
    bands = over_bands(features, shares, (0, 5, 200))
    assert [(first, last) for first, last, _, _ in bands] == [(0, 4), (5, 89)]
    assert bands[0][2] > bands[1][2]
    assert sum(energy for *_, energy in bands) == pytest.approx(1)


def test_a_wide_network_learns_the_features_in_the_kernels_order(binary):
    features, data = binary
    rate = 1 / float(features.eigenvalues[0])
    x = data.train.x.double()
    net = ntk_parametrize(build("fc1", data.shape, 1, width=1024), generator=torch.Generator().manual_seed(0)).double()
    trained = gradient_descent(Centred(net), x, features.machine.targets, steps=60, learning_rate=rate)
    with torch.no_grad():
        seen = over_bands(features, share_learned(features, trained(x)), (1, 10, 40))
    kernel = over_bands(features, predicted_share(features, nl.GradientDescent(60, rate)), (1, 10, 40))
    shares = [s for _, _, s, _ in seen]
    assert shares == sorted(shares, reverse=True)
    assert shares == pytest.approx([s for _, _, s, _ in kernel], abs=0.08)


def test_the_time_at_which_half_is_learned():
    shares = torch.tensor([[0.6, 0.49, 0.0], [0.9, 0.5, 0.49]], dtype=torch.float64)
    assert half_learned(shares, [3, 10]).tolist() == [3, 10, math.inf]
