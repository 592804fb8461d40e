"""The shortcut audit: it finds a planted patch, is silent without one, and its parts sum to the gap."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.errors import InputError
from ntklens.features import shortcut_audit
from ntklens.kernels import analytic_kernel
from ntklens.machine import KernelMachine

DATA = nl.load_dataset("fashion-mnist-mini", classes=[0, 6], train=200, test=80, size=14)
NET = nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 1))


def patched(x, which):
    """Return images with a grey patch in one of two corners."""
    x = x.clone()
    for image, place in zip(x, which.tolist(), strict=True):
        rows = slice(0, 3) if place else slice(-3, None)
        image[:, rows, :3] = 0.5
    return x


def audited(share, classes=2):
    """Return the audit of a machine whose training images have the patch of their class with a probability."""
    g = torch.Generator().manual_seed(0)
    y = DATA.train.y if classes == 2 else torch.arange(len(DATA.train.y)) % 3
    agrees = torch.rand(len(y), generator=g) < share
    attribute = torch.where(agrees, y % 2, 1 - y % 2)
    machine = KernelMachine(analytic_kernel(NET), nl.Ridge(0.01)).fit(patched(DATA.train.x, attribute), y)
    labels = DATA.test.y if classes == 2 else torch.arange(len(DATA.test.y)) % 3
    x, other = patched(DATA.test.x, labels % 2), patched(DATA.test.x, 1 - labels % 2)
    return machine, shortcut_audit(machine, x, other, labels, attribute=2.0 * attribute - 1), (x, other, labels)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_parts_sum_to_the_gap_of_the_machine(classes):
    machine, audit, (x, other, y) = audited(0.95, classes)

    def margin(images):
        f = machine.outputs(images.double())
        if classes == 2:
            return f[:, 0] * (2.0 * y - 1)
        own = f.gather(1, y[:, None])[:, 0]
        return own - (f.sum(1) - own) / 2

    assert float(audit.parts.sum()) == pytest.approx(audit.gap.value, abs=1e-9)
    assert audit.gap.value == pytest.approx(float((margin(x) - margin(other)).mean()), abs=1e-9)
    assert float(audit.label_energy.sum()) == pytest.approx(1.0)
    assert float(audit.attribute_energy.sum()) == pytest.approx(1.0)


def test_a_planted_patch_is_found_and_leaving_it_out_repairs_the_machine():
    machine, audit, (_, other, y) = audited(0.97)
    assert audit.has_gap
    assert float(audit.shares.sum()) == pytest.approx(1.0)
    rows = audit.rows(3)
    assert rows[0]["share"] > 0.15
    first = rows[0]["feature"]
    # The feature carries the attribute, is right with it and wrong against it.
    assert audit.attribute_energy[first] > 5 * audit.attribute_energy.median()
    assert rows[0]["aligned"] > rows[0]["conflicting"] + 0.2
    assert audit.worst[first] == rows[0]["conflicting"]
    assert audit.without(5).score(other, y) > machine.score(other, y) + 0.05
    assert audit.without(0).score(other, y) == machine.score(other, y)
    assert f"feature {first} has" in repr(audit)


def test_a_patch_that_says_nothing_has_no_shares():
    _, audit, _ = audited(0.5)
    assert not audit.has_gap
    assert audit.shares is None
    assert audit.rows() == []
    assert "none to share" in repr(audit)
    with pytest.raises(InputError, match="which is none"):
        audit.without(3)


def test_accuracies_are_those_of_the_features_alone():
    machine, audit, (x, other, y) = audited(0.9, 3)
    features = nl.eigenfeatures(machine)
    for scores, images in ((audit.aligned, x), (audit.conflicting, other)):
        alone = features.usefulness(images, y, range(6))
        assert [e.value for e in list(scores)[:6]] == pytest.approx([e.value for e in alone])


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused():
    machine, _, (x, other, y) = audited(0.9)
    with pytest.raises(InputError, match="expected machine as a KernelMachine"):
        shortcut_audit(NET, x, other, y)
    with pytest.raises(InputError, match="expected attribute of shape"):
        shortcut_audit(machine, x, other, y, attribute=torch.ones(3))
    with pytest.raises(InputError, match="aligned as at least one image"):
        shortcut_audit(machine, x[:0], other[:0], y[:0])
    with pytest.raises(InputError, match="y"):
        shortcut_audit(machine, x, other[:5], y)
