"""The loop of the gradient attacks, and the worst of several runs."""

import torch
from torch import nn

from ntklens.attacks import Threat, correct
from ntklens.attacks.ascent import AscentOptions, climb, worst_run
from ntklens.attacks.objective import Objective


def task(n: int = 24):
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 3))
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=g) / 2
    x = torch.rand(n, 1, 6, 6, generator=g)
    return model, x, model(x).argmax(1)


def test_the_loop_is_gradient_step_projection():
    model, x, y = task()
    threat = Threat(0.1, "l2", steps=3)
    objective = Objective()
    expected = x
    for _ in range(3):
        gradient, _ = objective.gradient(model, expected, y)
        expected = threat.project(expected + threat.step_length * threat.ascend(gradient), x)
    assert torch.equal(climb(model, x, y, x, threat, AscentOptions(objective)), expected)


def test_early_stop_keeps_the_first_image_that_succeeds_and_leaves_the_callers_alone():
    model, x, y = task()
    y[:5] = (y[:5] + 1) % 3  # wrong from the start
    before = x.clone()
    threat = Threat(0.05, steps=6)
    stopped = climb(model, x, y, x, threat, AscentOptions(Objective(), early_stop=True))
    assert torch.equal(x, before)
    assert torch.equal(stopped[:5], x[:5])
    iterates = [climb(model, x, y, x, Threat(0.05, steps=n, step_size=threat.step_length), AscentOptions(Objective()))
                for n in range(1, 7)]  # fmt: skip
    for image in range(5, len(x)):
        fooled = [not correct(model, x_adv[[image]], y[[image]]).item() for x_adv in iterates]
        first = fooled.index(True) if any(fooled) else 5
        torch.testing.assert_close(stopped[image], iterates[first][image])
    assert 0 < int(correct(model, stopped, y).sum()) < 19


def test_of_several_runs_each_image_keeps_the_worst():
    model, x, y = task()
    threat, objective = Threat(0.05, steps=1), Objective()
    runs = [
        worst_run(model, x, y, threat, AscentOptions(objective, n, True), torch.Generator().manual_seed(1))
        for n in (1, 2, 6)
    ]
    values, reached = zip(*(objective.scores(model, x_adv, y) for x_adv in runs), strict=True)
    for less, more in ((0, 1), (1, 2)):
        assert not (reached[less] & ~reached[more]).any()
        same = reached[less] == reached[more]
        assert (values[more][same] >= values[less][same]).all()
    assert float(values[2].mean()) > float(values[0].mean())
