"""Rows of the audits of training data."""

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs import machines
from bad_inputs.callee import Callee
from bad_inputs.certificates import dense
from bad_inputs.objects import classes, generator, images


def trigger(x):
    x = x.clone()
    x[..., :1, :1] = 1.0
    return x


def backdoor(**changes):
    return nl.backdoor_audit(**(_backdoor() | changes))


def _backdoor():
    return {
        "machine": dense(),
        "trigger": trigger,
        "candidates": images(4, seed=2),
        "target": 1,
        "x": images(4, seed=1),
        "y": classes(4),
        "count": 1,
    }


ROWS = [
    Callee(
        "backdoor_audit",
        backdoor,
        _backdoor,
        {
            "machine": machines.FITTED,
            "trigger": k.refused(nothing=None, text="x", number=3),
            "candidates": k.IMAGES,
            "target": k.refused(nothing=None, text="x", negative=-1, beyond=2, fraction=0.5),
            "x": k.IMAGES,
            "y": k.CLASSES,
            "count": k.COUNT,
        },
        names={"x": "x|inputs", "candidates": "candidates|inputs|x", "target": "target|y|classes"},
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee("BackdoorAudit.needed", lambda share: backdoor().needed(share), lambda: {"share": 0.9}, {"share": k.SHARE}),
    Callee(
        "unlearnable_audit",
        lambda **a: nl.unlearnable_audit(**a).losses,
        lambda: {
            "machine": dense(),
            "x": images(4, seed=1),
            "y": classes(4),
            "eps": 0.05,
            "held_out": (images(4, seed=2), classes(4)),
            "generator": generator(),
            "steps": 1,
            "step_size": 0.05,
            "filters": [nl.Ridge(0.1)],
        },
        {
            "machine": machines.FITTED,
            "x": k.IMAGES,
            "y": k.CLASSES,
            "eps": k.RADIUS,
            "held_out": k.refused(text="x", images=images(4, seed=1), three=(1, 2, 3)),
            "generator": k.GENERATOR,
            "steps": k.COUNT,
            "step_size": k.POSITIVE,
            "filters": k.refused(text="x", number=3, none_of_them=[], numbers=[3]),
        },
        but={("step_size", "nothing"): None},
        names={"x": "x|inputs", "eps": "ε", "filters": "filter"},
        empty=(("x", "y"), k.REFUSED),
    ),
]
