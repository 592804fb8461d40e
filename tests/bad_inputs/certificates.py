"""Rows of the certificates."""

import functools

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs import machines
from bad_inputs.callee import Callee
from bad_inputs.objects import analytic, classes, images

NAMES = {"eps": "ε", "x": "x|inputs"}


@functools.cache
def dense():
    """Return a machine on the kernel of a dense network."""
    return nl.KernelMachine(analytic(), nl.Ridge(0.01)).fit(images(), classes())


def flips():
    return nl.label_flips(dense(), images(4, seed=1))


ROWS = [
    Callee(
        "certify",
        lambda **a: nl.certify(**a).bound,
        lambda: {
            "machine": dense(),
            "x": images(4, seed=1),
            "y": classes(4),
            "eps": 0.05,
            "norm": "linf",
            "bounds": (0, 1),
            "tiers": "both",
            "attack": nl.Threat(0.05, steps=3),
            "memory_limit": 1 << 20,
        },
        {
            "machine": machines.FITTED,
            "x": k.IMAGES,
            "y": k.CLASSES,
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "bounds": k.BOUNDS,
            "tiers": k.CHOICE,
            "attack": k.refused(text="x", number=0.1, another=nl.Threat(0.1)),
            "memory_limit": k.COUNT,
        },
        names={**NAMES, "bounds": "bounds|attack", "eps": "ε|attack", "norm": "norm|attack"},
        empty=(("x", "y"), k.RIGHT),
    ),
    Callee(
        "label_flips",
        lambda **a: nl.label_flips(**a).needed,
        lambda: {"machine": dense(), "x": images(4, seed=1)},
        {"machine": machines.FITTED, "x": k.INPUTS},
        names=NAMES,
        empty=(("x",), k.RIGHT),
    ),
    Callee(
        "LabelFlips.certified",
        lambda **a: flips().certified(**a),
        lambda: {"flips": 1},
        {"flips": k.COUNT},
        but={("flips", "zero"): None},
    ),
    Callee(
        "LabelFlips.accuracy",
        lambda **a: flips().accuracy(**a).value,
        lambda: {"y": classes(4), "flips": 1},
        {"y": k.CLASSES, "flips": k.COUNT},
        but={("flips", "zero"): None},
    ),
    Callee(
        "collective_flips",
        lambda **a: nl.collective_flips(**a).changed,
        lambda: {"machine": dense(), "x": images(4, seed=1), "y": classes(4), "flips": 1},
        {"machine": machines.FITTED, "x": k.INPUTS, "y": k.CLASSES, "flips": k.COUNT},
        but={("flips", "zero"): None},
        names=NAMES,
    ),
]
