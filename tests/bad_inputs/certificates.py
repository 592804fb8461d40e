"""Rows of the certificates."""

import functools

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs import machines
from bad_inputs.callee import Callee
from bad_inputs.objects import analytic, classes, generator, images, network

NAMES = {"eps": "ε", "x": "x|inputs"}


@functools.cache
def dense():
    """Return a machine on the kernel of a dense network."""
    return nl.KernelMachine(analytic(), nl.Ridge(0.01)).fit(images(), classes())


def flips():
    return nl.label_flips(dense(), images(4, seed=1))


def smoothed():
    return nl.smooth(network(), images(4, seed=1), 0.1, generator=generator(), draws=20, confidence=0.9)


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
    Callee(
        "choose_filter",
        lambda **a: nl.choose_filter(**a).best,
        lambda: {
            "machine": dense(),
            "filters": [nl.Ridge(0.1), nl.Ridge(0.01)],
            "x": images(4, seed=1),
            "y": classes(4),
            "eps": 0.05,
            "norm": "linf",
            "bounds": (0, 1),
            "memory_limit": 1 << 20,
        },
        {
            "machine": machines.FITTED,
            "filters": k.refused(nothing=None, none=[], text="x", numbers=[0.1], one=nl.Ridge(0.1)),
            "x": k.IMAGES,
            "y": k.CLASSES,
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "bounds": k.BOUNDS,
            "memory_limit": k.COUNT,
        },
        names={**NAMES, "filters": "filter"},
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "certified_fit",
        lambda **a: nl.certified_fit(**a).coefficients,
        lambda: {
            "machine": dense(),
            "x": images(),
            "y": classes(),
            "eps": 0.05,
            "norm": "linf",
            "bounds": (0, 1),
            "held_out": (images(4, seed=1), classes(4)),
            "steps": 2,
            "temperature": 5.0,
            "penalty": 1e-4,
            "learning_rate": 0.03,
            "memory_limit": 1 << 20,
        },
        {
            "machine": machines.FITTED,
            "x": k.IMAGES,
            "y": k.CLASSES,
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "bounds": k.BOUNDS,
            "held_out": k.refused(text="x", images=images(4, seed=1), three=(1, 2, 3)),
            "steps": k.COUNT,
            "temperature": k.POSITIVE,
            "penalty": k.LENGTH,
            "learning_rate": k.POSITIVE,
            "memory_limit": k.COUNT,
        },
        but={("steps", "zero"): None},
        names=NAMES,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "smooth",
        lambda **a: nl.smooth(**a).radius,
        lambda: {
            "model": network(),
            "x": images(2, seed=1),
            "sigma": 0.1,
            "generator": generator(),
            "draws": 20,
            "selection": 5,
            "confidence": 0.9,
            "batch_size": 8,
        },
        {
            "model": k.MODEL,
            "x": k.INPUTS,
            "sigma": k.POSITIVE,
            "generator": k.GENERATOR,
            "draws": k.COUNT,
            "selection": k.COUNT,
            "confidence": (*k.SHARE, *k.refused(one=1.0, none=0.0)),
            "batch_size": k.COUNT,
        },
        but={("x", "float64"): k.REFUSED},
        names={"x": "x|model"},
        empty=(("x",), k.RIGHT),
    ),
    *(
        Callee(
            f"Smoothed.{name}",
            lambda name=name, **a: getattr(smoothed(), name)(**a),
            lambda: {"y": classes(4), "eps": 0.01},
            {"y": k.CLASSES, "eps": k.LENGTH},
            but={("y", "out of range"): None, ("y", "negative"): None, ("eps", "infinite"): None},
            names={"eps": "ε"},
        )
        for name in ("certified", "accuracy")
    ),
]
