"""The experiments that come with the package: that of `ntklens demo`, and those of `ntklens paper`."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

from ntklens.errors import InputError
from ntklens.study.spec import Spec


def demo_spec() -> Spec:
    """Return the experiment of `ntklens demo`, from the TOML file shipped beside this module."""
    return Spec.parse(_shipped("demo"))


PAPERS = ("transfer", "features", "dynamics")
"""Names of the experiments of `ntklens paper`."""


_USUAL_RADII = {"mnist": 0.1}
"""Radii in linf of the experiments of `ntklens paper` on data sets whose images 8/255 hardly changes."""


def paper_spec(
    name: str,
    data: dict[str, Any] | None = None,
    *,
    eps: float | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Spec:
    """Return an experiment of `ntklens paper`, on its own images or on others.

    Args:
        name: one of `PAPERS`.
        data: fields of a `DataSpec` that replace the experiment's own; another data set comes with all its classes.
        eps: radius of the attacks in linf; the experiment's own by default (8/255, and 0.1 on MNIST).
        seed: seed of the experiment.
        device: device of the experiment.

    Raises:
        InputError: an unknown name, or data that do not fit.
    """
    if name not in PAPERS:
        raise InputError(f'the experiment must be one of {", ".join(PAPERS)}; got "{name}".')
    values = _shipped(f"paper_{name}")
    other_data = data or {}
    values["data"] = other_data if "name" in other_data else values["data"] | other_data
    usual = _USUAL_RADII.get(str(other_data.get("name")).removeprefix("ntklens:"), values["attack"]["eps"])
    values["attack"] |= {"eps": usual if eps is None else eps}
    return Spec.parse(values | {"seed": seed, "device": device})


def _shipped(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files("ntklens.study").joinpath(f"{name}.toml").read_text(encoding="utf-8"))
