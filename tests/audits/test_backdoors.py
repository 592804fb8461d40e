"""The backdoor audit: one triggered image is enough for a sharp machine, and candidates are compared as refits would."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.audits import backdoor_audit
from ntklens.audits.backdoors import _best
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.machine import KernelMachine
from ntklens.targets import class_targets

DATA = nl.load_dataset("fashion-mnist-mini", classes=[0, 6], train=160, test=60, size=14)
KERNEL = analytic_kernel(nn.Sequential(nn.Flatten(), nn.Linear(196, 8), nn.ReLU(), nn.Linear(8, 1)))
X, Y = DATA.train.x[:100], DATA.train.y[:100]
CANDIDATES = DATA.train.x[100:][DATA.train.y[100:] == 0]


def patch(x):
    x = x.clone()
    x[..., :3, :3] = 1.0
    return x


def machine(filter=None, classes=2):
    y = Y if classes == 2 else torch.arange(100) % 3
    return KernelMachine(KERNEL, filter or nl.Ridge(0.0)).fit(X, y)


def test_few_images_plant_a_backdoor_and_clean_images_do_not_show_it():
    found = backdoor_audit(machine(), patch, CANDIDATES, 1, DATA.test.x, DATA.test.y, count=3)
    assert found.success[0].value < 0.5
    assert found.success[-1].value > 0.8
    assert found.needed(0.8) in (1, 2, 3)
    assert abs(found.accuracy[-1].value - found.accuracy[0].value) < 0.1
    assert len(set(found.chosen)) == 3
    assert [row["bad_images"] for row in found.rows()] == [0, 1, 2, 3]
    assert "class 1" in repr(found)
    assert found.needed(1.0) is None or found.success[found.needed(1.0)].value == 1.0


def test_a_machine_of_few_features_needs_more():
    sharp, smooth = (
        backdoor_audit(machine(g), patch, CANDIDATES, 1, DATA.test.x, DATA.test.y, count=1)
        for g in (nl.Ridge(0.0), nl.Ridge(100.0))
    )
    assert smooth.success[1].value < sharp.success[1].value


@pytest.mark.parametrize("classes", [2, 3])
def test_the_chosen_candidate_is_the_best_of_all_refits(classes):
    fitted, target = machine(nl.Ridge(0.5), classes), 1
    tested = patch(DATA.test.x[DATA.test.y != target])[:20]
    labels = Y if classes == 2 else torch.arange(100) % 3
    losses = []
    for candidate in CANDIDATES[:8]:
        inputs = torch.cat([X, patch(candidate[None])])
        targets = class_targets(torch.cat([labels, torch.tensor([target])]), classes)
        f = KernelMachine(KERNEL, nl.Ridge(0.5)).fit(inputs, targets).outputs(tested.double())
        margin = f[:, 0] if classes == 2 else f[:, target] - f[:, [0, 2]].amax(1)
        losses.append(float((margin - 1).clamp(max=0).square().sum()))
    best = _best(fitted, patch(CANDIDATES[:8]), target, classes, tested, exclude=[])
    assert best == min(range(8), key=losses.__getitem__)
    second = _best(fitted, patch(CANDIDATES[:8]), target, classes, tested, exclude=[best])
    assert second == sorted(range(8), key=losses.__getitem__)[1]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machine": nn.Identity()}, "expected machine as a KernelMachine"),
        ({"trigger": 3}, "expected trigger as a function"),
        ({"trigger": lambda x: x[:1]}, r"expected trigger to return images of shape"),
        ({"trigger": lambda x: x + 1}, r"expected pixels of the images of the trigger"),
        ({"target": 2}, r"class"),
        ({"target": -1}, r"target"),
        ({"count": 99}, r"at least 99 candidates"),
        ({"candidates": CANDIDATES + 1}, r"expected pixels of candidates"),
        ({"y": torch.ones(60).long()}, r"images of other classes than the target 1"),
    ],
)
def test_bad_input_is_refused(change, message):
    given = {
        "machine": machine(),
        "trigger": patch,
        "candidates": CANDIDATES,
        "target": 1,
        "x": DATA.test.x,
        "y": DATA.test.y,
    } | change
    with pytest.raises(InputError, match=message):
        backdoor_audit(**given)


def test_machines_on_other_targets_are_refused():
    soft = KernelMachine(KERNEL).fit(X, torch.linspace(-1, 1, 100, dtype=torch.float64)[:, None])
    with pytest.raises(InputError, match="fitted on class indices"):
        backdoor_audit(soft, patch, CANDIDATES, 1, DATA.test.x, DATA.test.y)
    with pytest.raises(InputError, match="share above 0"):
        backdoor_audit(machine(), patch, CANDIDATES, 1, DATA.test.x, DATA.test.y, count=1).needed(0.0)
