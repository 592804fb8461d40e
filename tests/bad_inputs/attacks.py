"""Rows of the attacks, of their scores, and of the threat model."""

import ntklens as nl
from bad_inputs import kinds as k
from bad_inputs.callee import Callee
from bad_inputs.objects import classes, generator, images, machine, network

EPS = {"eps": "ε"}


def _clean(**options):
    return lambda: {"model": network(), "x": images(), "y": classes(), "eps": 0.1, **options}


ATTACK = {
    "model": k.MODEL,
    "x": k.IMAGES,
    "y": k.CLASSES,
    "eps": k.RADIUS,
    "norm": k.CHOICE,
    "bounds": k.BOUNDS,
    "batch_size": k.COUNT,
}
SETTINGS = {"norm": "linf", "bounds": (0, 1), "batch_size": 3}
NAMES = {**EPS, "x": "x|model"}
OTHER_DTYPE = {("x", "float64"): k.REFUSED}  # the network of the table is in float32
NONE = (("x", "y"), k.RIGHT)

ROWS = [
    Callee(
        "fgsm",
        nl.fgsm,
        _clean(loss="margin", **SETTINGS),
        {**ATTACK, "loss": k.CHOICE},
        OTHER_DTYPE,
        NAMES,
        NONE,
    ),
    *(
        Callee(
            name,
            getattr(nl, name),
            lambda: {**_clean()(), "model": machine()},
            {"x": k.IMAGES, "y": k.CLASSES},
            empty=NONE,
        )
        for name in ("fgsm", "pgd")
    ),
    Callee(
        "pgd",
        nl.pgd,
        _clean(
            **SETTINGS,
            loss="margin",
            steps=3,
            step_size=0.05,
            restarts=1,
            momentum=0.5,
            diversity=0.0,
            translation=1,
            generator=generator(),
        ),
        {
            **ATTACK,
            "loss": k.CHOICE,
            "steps": k.COUNT,
            "step_size": k.POSITIVE,
            "restarts": k.COUNT,
            "momentum": k.LENGTH,
            "diversity": k.SHARE,
            "translation": (*k.COUNT, *k.refused(even=2)),
            "generator": k.GENERATOR,
        },
        but={
            **OTHER_DTYPE,
            ("step_size", "nothing"): None,
            ("translation", "zero"): None,
        },
        names=NAMES,
        empty=NONE,
    ),
    Callee(
        "pgd",
        nl.pgd,
        lambda: _clean(relative_step=0.25, loss="margin")(),
        {"relative_step": k.POSITIVE},
        but={("relative_step", "nothing"): None},
    ),
    Callee(
        "square",
        lambda generator, **arguments: nl.square(generator=_fresh(generator), **arguments),
        _clean(**SETTINGS, queries=5, share=0.3, generator=generator()),
        {**ATTACK, "queries": k.COUNT, "share": (*k.SHARE, *k.refused(zero=0.0)), "generator": k.GENERATOR},
        but=OTHER_DTYPE,
        names=NAMES,
        empty=NONE,
    ),
    Callee(
        "noise",
        lambda generator, **arguments: nl.noise(generator=_fresh(generator), **arguments),
        lambda: {"x": images(), "eps": 0.1, "norm": "l2", "bounds": (0, 1), "kind": "signs", "generator": generator()},
        {
            "x": k.IMAGES,
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "bounds": k.BOUNDS,
            "kind": k.CHOICE,
            "generator": (*k.GENERATOR, *k.refused(nothing=None)),
        },
        but={("x", "other shape"): None, ("x", "float64"): None},
        names=EPS,
        empty=(("x",), k.RIGHT),
    ),
    Callee(
        "attack",
        lambda **arguments: nl.attack(**arguments).x_adv,
        _clean(**SETTINGS, method="pgd", victim=network(), steps=2),
        {**ATTACK, "method": k.refused(unknown="nope", nothing=None), "victim": k.MODEL, "steps": k.COUNT},
        but={**OTHER_DTYPE, ("victim", "nothing"): None},
        names={**NAMES, "victim": "model"},
        empty=NONE,
    ),
    Callee(
        "evaluate",
        nl.evaluate,
        _clean(x_adv=images() + 0.01, **SETTINGS),
        {**ATTACK, "x_adv": k.IMAGES},
        but={
            **OTHER_DTYPE,
            ("x_adv", "float64"): k.REFUSED,
        },
        names=NAMES,
        empty=(("x", "y", "x_adv"), k.RIGHT),
    ),
    Callee(
        "accuracy",
        nl.accuracy,
        lambda: {"model": network(), "x": images(), "y": classes(), "batch_size": 3},
        {"model": k.MODEL, "x": k.INPUTS, "y": k.CLASSES, "batch_size": k.COUNT},
        but=OTHER_DTYPE,
        names={"x": "x|y|model"},  # a batch of another shape is told by its number of classes
        empty=NONE,
    ),
    Callee(
        "diagnose",
        lambda generator, **arguments: nl.diagnose(generator=_fresh(generator), **arguments),
        _clean(**SETTINGS, steps=2, queries=3, generator=generator()),
        {**ATTACK, "steps": k.COUNT, "queries": k.COUNT, "generator": (*k.GENERATOR, *k.refused(nothing=None))},
        but={**OTHER_DTYPE, ("x", "above the bounds"): None, ("x", "below the bounds"): None},
        names=NAMES,
        empty=(("x", "y"), k.REFUSED),
    ),
    Callee(
        "Threat",
        nl.Threat,
        lambda: {"eps": 0.1, "norm": "linf", "steps": 2, "step_size": 0.05, "bounds": (0, 1)},
        {
            "eps": k.RADIUS,
            "norm": k.CHOICE,
            "steps": k.COUNT,
            "step_size": k.POSITIVE,
            "bounds": k.BOUNDS,
        },
        but={("step_size", "nothing"): None},
        names=EPS,
    ),
]


def _fresh(given):
    """Return a generator in its first state, where one is given, so that two calls draw the same numbers."""
    return generator() if isinstance(given, type(generator())) else given
