"""NTK features: which are useful, which robust, what they look like, and whether kernels agree on them (C3 to C6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ntklens.errors import InputError
from ntklens.features import eigenfeatures
from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.agreement import agreement
from ntklens.study.stages.features.learning import learning
from ntklens.study.stages.features.pictures import pictures
from ntklens.study.stages.features.robust_data import networks_on_robust_data, who_carries_them
from ntklens.study.stages.features.scores import categorised, kept_features, scored_bands, scores, trade_off

Tables = dict[str, list[dict[str, Any]]]
Part = tuple[float, Callable[[Progress], tuple[Tables, dict[str, NDArray[Any]]]]]
"""Its share of the time, roughly, and what it makes."""


def check_features(context: Context, spec: FeaturesSpec) -> None:
    """Refuse, before anything runs, kernels without rules and places beyond the spectrum that were asked for by hand.

    Raises:
        InputError: an architecture or an index that does not fit.
    """
    for name in spec.compare:
        context.kernel(name)
    n, given = len(context.train[1]), spec.model_fields_set
    classes = len(context.data.classes)
    if spec.compare and spec.compare_train is not None and spec.compare_train < classes:
        raise InputError(
            f"other kernels are fitted on images of all {classes} classes; `compare_train` asks for {spec.compare_train} "
            "images: ask for more."
        )
    if spec.scored is not None and "pictured" in given and max(spec.pictured) >= spec.scored:
        raise InputError(
            f"features 0 to {spec.scored - 1} are scored, by `scored`; `pictured` asks for {_told(spec, 'pictured')}: "
            "score more, or picture fewer."
        )
    wanted = {
        "pictured": [i + 1 for i in spec.pictured],
        "scored": [spec.scored or 1],
        "robust_ranks": [k + 1 for k in spec.robust_ranks] if spec.robust_networks else [],
    }
    for field, places in wanted.items():
        beyond = [k for k in places if k > n]
        if field in given and beyond:
            raise InputError(
                f"{n} training images have features 0 to {n - 1}; `{field}` asks for {_told(spec, field)}: ask "
                "for less, or give more images."
            )


def _told(spec: FeaturesSpec, field: str) -> str:
    value = getattr(spec, field)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_rank(spec: FeaturesSpec, rank: int, n: int) -> None:
    """Refuse features of eigenvalues that are nothing but rounding, where they were asked for by hand."""
    given = spec.model_fields_set
    if ("pictured" in given and max(spec.pictured) >= rank) or (spec.scored or 0) > rank:
        raise InputError(
            f"the kernel matrix of these {n} images has {rank} eigenvalues above rounding, so features 0 to {rank - 1} "
            "(are there duplicates?); more are asked for by `pictured` or `scored`: ask for less."
        )


def features_stage(context: Context, spec: FeaturesSpec, progress: Progress) -> StageResult:
    """Each feature's worth, machines of chosen ones, pictures, other kernels' features, and what follows for networks."""
    features = eigenfeatures(context.machine)
    _check_rank(spec, features.rank, len(features))
    tables: Tables = {}
    arrays: dict[str, NDArray[Any]] = {
        "eigenvalues": features.eigenvalues.cpu().numpy(),
        "label_energy": features.label_energy.cumsum(0).cpu().numpy(),
    }

    def chosen_by_half() -> dict[str, list[int]]:
        return categorised(tables["features"], "by_half")

    parts: list[Part] = [
        (5.0, lambda tell: (scores(context, features, spec, tell), {})),
        (0.5, lambda tell: (kept_features(context, features, spec, tables["features"], tell), {})),
        (0.5, lambda tell: (scored_bands(context, features, spec, tell), {})),
        (0.5, lambda tell: (trade_off(context, features, spec, tell), {})),
        (2.0, lambda tell: agreement(context, features, spec, tell)),
        (0.2, lambda tell: pictures(context, features, spec, tables["features"])),
        (1.0, lambda tell: (learning(context, features, spec, tell), {})),
        (0.1, lambda tell: who_carries_them(context, features, categorised(tables["features"]))),
        (1.0, lambda tell: networks_on_robust_data(context, features, spec, chosen_by_half(), tell)),
    ]
    total = sum(weight for weight, _ in parts)
    done = 0.0
    for weight, make in parts:
        new_tables, new_arrays = make(progress.part(done / total, weight / total))
        tables |= {name: rows for name, rows in new_tables.items() if rows}
        arrays |= new_arrays
        done += weight
    progress(1.0)
    return StageResult(tables, arrays)
