"""Sets of features: by category, by bands of the spectrum, and what of the labels they carry."""

import pytest
import torch

from ntklens.features import attribution, bands, class_shares, subsets


def test_sets_cover_the_features_and_their_complements_add_up_to_the_machine(binary):
    features, data = binary
    names = ["robust and useful", "useful non-robust", "not useful"] * 30
    sets = subsets(names)
    assert sorted(sets["robust and useful"] + sets["all but the robust"]) == list(range(90)) == sets["all"]
    assert len(sets["useful non-robust"]) == 30
    x = data.test.x.double()
    parts = features.keep(sets["useful non-robust"]).outputs(x) + features.keep(
        sets["all but the useful non-robust"]
    ).outputs(x)
    torch.testing.assert_close(parts, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


def test_bands_part_the_spectrum_and_their_machines_add_up(binary):
    features, data = binary
    parts = bands((0, 1, 10, 100), len(features))
    assert [i for part in parts for i in part] == list(range(90))
    assert len(parts) == 3
    x = data.test.x.double()
    whole = sum(features.keep(part).outputs(x) for part in parts)
    torch.testing.assert_close(whole, features.machine.outputs(x), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("fixture", ["binary", "ten"])
def test_attribution_adds_up_to_the_label_energy(request, fixture):
    features, data = request.getfixturevalue(fixture)
    chosen = [1, 2, 7, 30]
    shares = attribution(features, chosen)
    assert float(shares.sum()) == pytest.approx(float(features.label_energy[chosen].sum()))
    torch.testing.assert_close(attribution(features, range(90)), torch.full((90,), 1 / 90, dtype=torch.float64))
    by_class = class_shares(shares, data.train.y)
    assert float(by_class.sum()) == pytest.approx(float(shares.sum()))
    assert float(by_class[1]) == pytest.approx(float(shares[data.train.y == 1].sum()))
    assert attribution(features, []).abs().sum() == 0
