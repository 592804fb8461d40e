"""The model that the images against the user's network are made on, where the network's inside is not looked at."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel
from ntklens.linalg import GradientFlow, Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import build, load_network
from ntklens.progress import Parts, Progress
from ntklens.study.context import Context
from ntklens.study.parts import SEARCH, SURROGATE
from ntklens.study.spec import VictimSpec
from ntklens.transfer import TrainingRecipe, check_surrogate, match_time, search_time, surrogate

_PROBE = 100
"""Number of training images, set aside from the surrogate's sample, on which its training time is searched for."""


def attack_source(
    context: Context, spec: VictimSpec, victim: nn.Module, parts: Parts
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model that the images are made on, and a row of the table "victim_meta" that describes it.

    Without a surrogate this is the victim. A surrogate is fitted on the first training images; if it is a kernel machine,
    its training time is set as `spec.time` asks for.
    """
    meta: dict[str, Any] = {
        "victim": spec.path,
        "surrogate": spec.surrogate,
        "method": spec.method,
        "test": len(context.data.test),
    }
    if spec.surrogate is None:
        return victim, meta
    sample = _sample_size(context, spec)
    x, y = (tensor[:sample] for tensor in context.train)
    with parts(SURROGATE) as progress:
        model = _fitted(context, spec, spec.surrogate, x, y, progress)
    meta |= {"sample": len(x), "queries": 0, "kernel": isinstance(model, KernelMachine), "time": None}
    if isinstance(model, KernelMachine) and spec.time != "inf":
        with parts(SEARCH) as progress:
            model, time = _at_its_time(context, spec, model, victim, sample, progress)
        meta |= time
    return model, meta


def _at_its_time(
    context: Context, spec: VictimSpec, machine: KernelMachine, victim: nn.Module, sample: int, progress: Progress
) -> tuple[KernelMachine, dict[str, Any]]:
    """Return the machine after a training time that is searched for or given, and columns that say how it was found."""
    # The images that follow the surrogate's sample, so that the machine has not been fitted on them.
    x, y = (tensor[sample : sample + _PROBE] for tensor in context.train)
    threat = context.threat
    if spec.time == "search":
        searched = search_time(machine, victim, x, y, threat.eps, threat.norm, progress=progress)
        # The time is infinite where the machine's own filter fools most; tables hold no infinity.
        time = searched.time if math.isfinite(searched.time) else None
        columns = {"time": time, "search_fooled": searched.fooled, "queries": searched.queries}
        return machine.refilter(searched.filter), columns
    if spec.time == "match":
        matched = match_time(machine, victim, x, progress=progress)
        columns = {"time": matched.filter.time, "correlation": matched.correlation, "queries": matched.queries}
        return machine.refilter(matched.filter), columns
    flow = GradientFlow(float(spec.time))
    return machine.refilter(flow), {"time": flow.time if math.isfinite(flow.time) else None}


def check_victim_surrogate(context: Context, spec: VictimSpec) -> None:
    """Raise InputError, before a run is made, for a surrogate that is not known or does not take the images."""
    if spec.surrogate is None:
        return
    _sample_size(context, spec)
    if ".py:" in spec.surrogate:
        analytic_kernel(load_network(spec.surrogate)).graph(context.data.shape)
        return
    name = _full_name(spec.surrogate)
    check_surrogate(name)
    kind, _, architecture = name.partition("+")[0].partition(":")
    if kind == "noise":
        raise InputError("noise is the control of every attack already; give a surrogate with a model, such as fc3.")
    if kind in ("ntk", "net"):
        build(architecture, context.data.shape, context.outputs, width=1)


def _sample_size(context: Context, spec: VictimSpec) -> int:
    """Return the number of training images that the surrogate is fitted on; a search of its time sets others aside.

    Raises:
        InputError: too few images, or a class without an image.
    """
    n = len(context.data.train)
    searched = spec.time in ("search", "match")
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


def _full_name(name: str) -> str:
    """Return a surrogate's full name: an architecture alone stands for the kernel of its untrained network."""
    is_full = ":" in name or name.partition("+")[0] in ("linear", "rbf", "noise")
    return name if is_full else f"ntk:{name}"


def _fitted(context: Context, spec: VictimSpec, name: str, x: Tensor, y: Tensor, progress: Progress) -> nn.Module:
    """Return the surrogate, fitted on images x and classes y."""
    kernel = context.spec.kernel
    if ".py:" in name:
        own_kernel = analytic_kernel(load_network(name), kernel.w_std, kernel.b_std)
        return KernelMachine(own_kernel, Ridge(kernel.ridge)).fit(x, y, progress=progress)
    result = surrogate(
        _full_name(name),
        x,
        y,
        len(context.data.classes),
        seed=context.spec.seed,
        w_std=kernel.w_std,
        b_std=kernel.b_std,
        ridge=kernel.ridge,
        training=TrainingRecipe(width=spec.width, epochs=spec.epochs),
        progress=progress,
    )
    if result.model is None:
        raise InputError("noise is the control of every attack already; give a surrogate with a model, such as fc3.")
    return result.model
