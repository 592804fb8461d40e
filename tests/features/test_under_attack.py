"""All features attacked at once, held to one machine after the other."""

import pytest
import torch

import ntklens as nl
from ntklens.attacks import correct
from ntklens.features import Threat, under_attack
from ntklens.kernels import LinearKernel
from ntklens.networks import build

THREATS = [
    Threat(8 / 255),
    Threat(8 / 255, steps=4),
    Threat(8 / 255, steps=3, step_size=0.02),
    Threat(1.0, "l2"),
    Threat(1.0, "l2", steps=4),
]
INDICES = [0, 1, 5, 17, 60]


def task(classes, architecture="fc1", dtype=torch.float64):
    data = nl.load_dataset("fashion-mnist-mini", classes=classes).first(80, 60)
    kernel = nl.analytic_kernel(build(architecture, data.shape, 1))
    machine = nl.KernelMachine(kernel, arithmetic=dtype).fit(data.train.x, data.train.y)
    return nl.eigenfeatures(machine), data.test.x, data.test.y


def one_by_one(features, x, y, threat, indices):
    """The plain twin: the library's attacks on each feature as a machine of its own."""
    rows = []
    for i in indices:
        feature = features.keep(i)
        if threat.steps == 1:
            found = nl.fgsm(feature, x, y, threat.eps, threat.norm)
        else:
            options = {"step_size": threat.step_size, "early_stop": True}
            found = nl.pgd(feature, x, y, threat.eps, threat.norm, threat.steps, **options)
        rows.append(correct(feature, found, y))
    return torch.stack(rows)


@pytest.mark.parametrize("classes", [[2, 4], None])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_each_outcome_is_that_of_the_feature_attacked_alone(classes, threat):
    features, x, y = task(classes)
    made = features.outcomes(x, y, threat, INDICES)
    plain = one_by_one(features, x, y, threat, INDICES)
    assert torch.equal(made.attacked, plain & made.clean)
    assert 0.02 < float(made.attacked.double().mean()) < float(made.clean.double().mean())


def test_convolutional_kernels():
    features, x, y = task([2, 4], "conv2")
    threat = Threat(4 / 255, steps=2)
    made = features.outcomes(x[:12], y[:12], threat, INDICES)
    assert torch.equal(made.attacked, one_by_one(features, x[:12], y[:12], threat, INDICES) & made.clean)


def test_float32_arithmetic_agrees_but_for_ties():
    exact, x, y = task([2, 4])
    single, _, _ = task([2, 4], dtype=torch.float32)
    a, b = (f.outcomes(x, y, THREATS[1]).attacked for f in (exact, single))
    assert float((a != b).double().mean()) < 0.002


def test_the_outcomes_do_not_depend_on_what_is_computed_together(monkeypatch):
    features, x, y = task(None)
    whole = features.outcomes(x, y, THREATS[1])
    seen = []
    monkeypatch.setattr(under_attack, "_ENTRIES", 1)
    monkeypatch.setattr(under_attack, "_TILE", 7)
    parts = features.outcomes(x, y, THREATS[1], progress=seen.append)
    assert torch.equal(whole.attacked, parts.attacked)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_feature_without_labels_cannot_be_fooled():
    """All its logits are equal, so its prediction never changes."""
    features, x, y = task(None)
    features.weights[3] = 0.0
    made = features.outcomes(x, y, THREATS[0], [3])
    assert torch.equal(made.attacked, made.clean)
    assert torch.equal(made.clean[0], y == 0)


@pytest.mark.parametrize("threat", [None, *THREATS[:2], THREATS[4]], ids=str)
@pytest.mark.parametrize("classes", [[2, 4], [0, 2], [0, 2, 4, 6], [9, 7, 5, 3]])
def test_where_all_outputs_are_the_same_the_first_class_is_predicted(classes, threat):
    """A black image has no inner product with any other, and no feature of a linear kernel sees it."""
    data = nl.load_dataset("fashion-mnist-mini", classes=classes).first(40, 10)
    features = nl.eigenfeatures(nl.KernelMachine(LinearKernel()).fit(data.train.x, data.train.y))
    y = torch.arange(len(classes))
    black = torch.zeros_like(data.test.x[: len(y)])
    made = features.outcomes(black, y, threat, range(20))
    assert torch.equal(made.clean, (y == 0).expand(20, -1))
    assert torch.equal(made.clean, torch.stack([features.predict(black, i) == y for i in range(20)]))
    if threat is not None:
        assert torch.equal(made.attacked, made.clean & one_by_one(features, black, y, threat, range(20)))
        if classes == [0, 2] and threat.norm == "linf":
            assert made.attacked.any(), "no pixel can go below black, so a feature stays at zero"
