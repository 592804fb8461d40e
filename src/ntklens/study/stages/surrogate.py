"""What the images against the user's network are made on: the network itself, or models that do not look inside it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from ntklens.attacks.objective import Objective
from ntklens.errors import InputError
from ntklens.linalg import CrossEntropy, GradientFlow
from ntklens.machine import KernelMachine
from ntklens.networks import labels
from ntklens.progress import Parts, Progress
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Context
from ntklens.study.networks import check_surrogate
from ntklens.study.parts import SEARCH, SURROGATE
from ntklens.study.spec import SEARCHES, VictimSpec
from ntklens.transfer import Surrogate, SurrogateName, TrainingRecipe, match_time, search_time, surrogate
from ntklens.vocabulary import (
    CONTROL_SOURCE,
    KERNEL_SOURCE,
    QUERY_SOURCE,
    SQUARE,
    TANGENT_SOURCE,
    TRAINED_SOURCE,
    WHITE_BOX,
    WHITE_BOX_SOURCE,
)

_PROBE = 100
"""Number of training images, set aside from the surrogates' sample, on which their training time is searched for."""
_OF_THE_VICTIM = (WHITE_BOX, SQUARE)
"""Sources that are the victim itself."""


@dataclass(frozen=True)
class Source:
    """A model that images are made on.

    Attributes:
        name: as in `sources`.
        kind: one of the kinds of sources in `ntklens.vocabulary`.
        model: images to logits.
        options: options of `pgd` on it.
        sample: number of training images that it has seen; 0 for the victim.
        seconds: time to fit or train it, and to find its training time.
        training_gradients: images shown for a gradient while it was trained.
        queries: images that the victim was asked about to find its training time.
        time: its training time ηt; None for t = ∞ and for what is no kernel machine.
        found: columns that say how the time was found.
    """

    name: str
    kind: str
    model: nn.Module
    options: dict[str, Any] = field(default_factory=dict)
    sample: int = 0
    seconds: float = 0.0
    training_gradients: int = 0
    queries: int = 0
    time: float | None = None
    found: dict[str, Any] = field(default_factory=dict)


def is_surrogate(name: str) -> bool:
    """Return whether a source is another model than the victim."""
    return name not in _OF_THE_VICTIM


def sources(context: Context, spec: VictimSpec) -> dict[str, SurrogateName | None]:
    """Return what the images are made on, by its name for tables, in order; None for the victim itself.

    Names stay as the user gave them, but for files, which lose their folders where the rest tells them apart.
    """
    try:
        read = {text: context.surrogate(text) if is_surrogate(text) else None for text in spec.sources}
    except InputError as error:
        raise InputError(f"{error} A victim is attacked by square and white-box too.") from error
    names = labels(known.network for known in read.values() if known is not None and known.network is not None)
    result: dict[str, SurrogateName | None] = {}
    for text, known in read.items():
        is_plain = known is None or known.network is None or known.network.kind == "architecture"
        result[text if known is None or is_plain else known.label(names)] = known
    return result


def kind_of(name: str, known: SurrogateName | None) -> str:
    """Return the kind of a source."""
    if known is None:
        return WHITE_BOX_SOURCE if name == WHITE_BOX else QUERY_SOURCE
    return {"net": TRAINED_SOURCE, "ntk": KERNEL_SOURCE, "entk": TANGENT_SOURCE}.get(known.kind, CONTROL_SOURCE)


def make_source(context: Context, spec: VictimSpec, victim: nn.Module, name: str, parts: Parts) -> Source:
    """Return the model of a source; a kernel machine's training time is set as `spec.time` asks for.

    Args:
        context: of the experiment; surrogates are fitted on its first training images.
        spec: of the attack.
        victim: the user's network, which the search for a training time asks for outputs.
        name: of the source.
        parts: of the stage, whose progress is told.
    """
    known = sources(context, spec)[name]
    kind = kind_of(name, known)
    if known is None:
        return Source(name, kind, victim)
    start = time.perf_counter()
    sample = _sample_size(context, spec)
    with parts(SURROGATE) as progress:
        fitted = _fitted(context, spec, known, sample, progress)
    model = fitted.model
    found: dict[str, Any] = {}
    assert model is not None
    # A network that brings its weights, or a saved machine, has seen none of the experiment's samples; and the machine has
    # its own training time.
    is_given = known.network is not None and known.network.is_trained and known.kind != "entk"
    if isinstance(model, KernelMachine) and spec.time != "inf" and not is_given:
        with parts(SEARCH) as progress:
            model, found = _at_its_time(context, spec, model, victim, sample, progress)
    return Source(
        name,
        kind,
        model,
        fitted.options,
        sample=0 if is_given else sample,
        seconds=time.perf_counter() - start,
        training_gradients=fitted.gradient_evaluations,
        queries=found.pop("queries", 0),
        time=found.pop("time", None),
        found=found,
    )


def model_at(context: Context, spec: VictimSpec, name: str, flow_time: float | None) -> nn.Module:
    """Return the model of a surrogate whose training time is known (None for t = ∞), without a query of the victim."""
    known = sources(context, spec)[name]
    assert known is not None
    model = _fitted(context, spec, known, _sample_size(context, spec), Progress()).model
    assert model is not None
    if isinstance(model, KernelMachine) and flow_time is not None:
        flow = CrossEntropy(flow_time) if spec.time == "cross-entropy" else GradientFlow(flow_time)
        return model.refilter(flow)
    return model


def without_gradients(victim: nn.Module, x: Tensor, y: Tensor) -> str | None:
    """Return the sentence of a victim whose gradient cannot be followed; None where one image has a gradient.

    Args:
        victim: images to logits.
        x: images, of which the first is shown.
        y: their classes.
    """
    try:
        Objective().gradient(victim, x[:1], y[:1])
    except InputError as error:
        return (
            f"The victim has no gradient to follow, so there is no white-box attack on it: {error} Attack it with square, "
            "which asks for outputs alone, or by surrogates."
        )
    return None


def dead_gradients(x: Tensor, x_adv: Tensor, right: Tensor) -> str | None:
    """Return the sentence of a white-box attack that leaves images as they are, because their gradient is exactly zero.

    Args:
        x: (n, C, H, W) images.
        x_adv: (n, C, H, W) attacked images.
        right: (n,), whether the victim is right on each clean image.
    """
    unchanged = (x_adv == x).flatten(1).all(1) & right
    if not bool(unchanged.any()):
        return None
    return (
        f"The victim's gradient is exactly zero on {int(unchanged.sum())} of the {int(right.sum())} images that it gets "
        "right, and the white box leaves these as they are: its accuracy says little. Square and surrogates need no "
        "gradient of the victim."
    )


def _at_its_time(
    context: Context, spec: VictimSpec, machine: KernelMachine, victim: nn.Module, sample: int, progress: Progress
) -> tuple[KernelMachine, dict[str, Any]]:
    """Return the machine after a training time that is searched for or given, and columns that say how it was found."""
    # The images that follow the surrogate's sample, so that the machine has not been fitted on them.
    x, y = (tensor[sample : sample + _PROBE] for tensor in context.train)
    threat = context.threat
    if spec.time in ("search", "cross-entropy"):
        loss = "squared" if spec.time == "search" else spec.time
        searched = search_time(machine, victim, x, y, threat.eps, threat.norm, loss=loss, progress=progress)
        # The time is infinite where the machine's own filter fools most; tables hold no infinity.
        found = searched.time if math.isfinite(searched.time) else None
        columns: dict[str, Any] = {
            "time": found,
            "search_fooled": searched.fooled,
            "queries": searched.queries,
        }
        if loss == "cross-entropy":
            columns["loss"] = loss
        return machine.refilter(searched.filter), columns
    if spec.time == "match":
        matched = match_time(machine, victim, x, progress=progress)
        columns = {"time": matched.filter.time, "correlation": matched.correlation, "queries": matched.queries}
        return machine.refilter(matched.filter), columns
    flow = GradientFlow(float(spec.time))
    return machine.refilter(flow), {"time": flow.time if math.isfinite(flow.time) else None}


def check_victim_surrogates(context: Context, spec: VictimSpec) -> None:
    """Raise InputError, before a run is made, for a surrogate that is not known or does not take the images."""
    surrogates = [known for known in sources(context, spec).values() if known is not None]
    if surrogates:
        _sample_size(context, spec)
    for known in surrogates:
        if known.kind == "noise":
            raise InputError(
                "noise is the control of every attack already; give a surrogate with a model, such as fc3."
            )
        check_surrogate(context, known)


def _sample_size(context: Context, spec: VictimSpec) -> int:
    """Return the number of training images that surrogates are fitted on; a search of their time sets others aside.

    Raises:
        InputError: too few images, or a class without an image.
    """
    n = len(context.data.train)
    searched = spec.time in SEARCHES
    sample = min(spec.sample, n - (_PROBE if searched else 0))
    if sample < 2:
        raise InputError(
            f"a search of the time sets {_PROBE} of the {n} training images aside, and nothing is left for the surrogate; "
            "give more images, or a --time such as inf."
        )
    fitted, aside = slice(0, sample), slice(sample, sample + _PROBE)
    for images in (fitted, aside) if searched else (fitted,):
        present = set(context.data.train.y[images].tolist())
        missing = [name for c, name in enumerate(context.data.classes) if c not in present]
        if missing:
            raise InputError(
                f"expected training images {images.start} to {min(images.stop, n) - 1} to be of all classes; got none of "
                f"{missing[0]}. Bring the images into another order, or take a larger --sample."
            )
    return sample


def _fitted(context: Context, spec: VictimSpec, known: SurrogateName, sample: int, progress: Progress) -> Surrogate:
    """Return a surrogate, fitted on the first training images."""
    x, y = (tensor[:sample] for tensor in context.train)
    kernel = context.spec.kernel
    return surrogate(
        known,
        x,
        y,
        len(context.data.classes),
        seed=context.spec.seed,
        w_std=kernel.w_std,
        b_std=kernel.b_std,
        ridge=kernel.ridge,
        width=kernel.width,
        training=TrainingRecipe(width=spec.width, epochs=spec.epochs),
        class_outputs=class_outputs(context, known.label()),
        progress=progress,
    )
