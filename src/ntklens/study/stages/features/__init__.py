"""NTK features: which are useful, which robust, what they look like, and whether kernels agree on them (C3 to C6, N1)."""

from __future__ import annotations

from collections.abc import Callable

from ntklens.errors import InputError
from ntklens.features import NTKFeatures, eigenfeatures
from ntklens.progress import Progress
from ntklens.study.context import Arrays, Context, Rows, StageResult
from ntklens.study.parts import KERNEL_MATRIX, SPECTRUM
from ntklens.study.spec import FeaturesSpec
from ntklens.study.stages.features.agreement import agreement
from ntklens.study.stages.features.attribution import label_energy_by_image
from ntklens.study.stages.features.certificates import certified, check_certified
from ntklens.study.stages.features.kept import first_features, kept_features, scored_bands, trade_off
from ntklens.study.stages.features.learning import learning
from ntklens.study.stages.features.pictures import pictures
from ntklens.study.stages.features.robust_data import networks_on_robust_data
from ntklens.study.stages.features.scores import robust_and_fragile, scores

__all__ = ["check_features", "features_stage"]

Tables = dict[str, Rows]
Step = Callable[[Progress], tuple[Tables, Arrays]]
"""The function that does a part of the stage."""
_WEIGHTS = {
    KERNEL_MATRIX: 1.0,
    SPECTRUM: 1.0,
    "scores": 5.0,
    "machines of features": 0.5,
    "bands": 0.5,
    "trade-off": 0.5,
    "other kernels": 2.0,
    "pictures": 0.2,
    "learning": 1.0,
    "robust data": 1.0,
    "certificates": 2.0,
}
"""The parts of the stage, with rough shares of its time."""


def features_stage(context: Context, spec: FeaturesSpec, progress: Progress) -> StageResult:
    """Score each feature, fit machines of chosen ones, picture them, and compare them with other kernels' features."""
    parts = context.parts("features", progress, _WEIGHTS)
    with parts(KERNEL_MATRIX) as part:
        machine = context.fitted(part)
    with parts(SPECTRUM):
        features = eigenfeatures(machine)
    _check_rank(spec, features.rank, len(features))
    tables: Tables = {}
    arrays: Arrays = {
        "eigenvalues": features.eigenvalues.cpu().numpy(),
        "label_energy": features.label_energy.cumsum(0).cpu().numpy(),
    }

    def by_all() -> dict[str, list[int]]:
        return robust_and_fragile(tables["features"], "category")

    def by_half() -> dict[str, list[int]]:
        return robust_and_fragile(tables["features"], "by_half")

    # Later steps read the scores of the first one, so the order matters.
    steps: dict[str, Step] = {
        "scores": lambda part: (scores(context, features, spec, part), {}),
        "machines of features": lambda part: (_machines(context, features, spec, tables["features"], part), {}),
        "bands": lambda part: (scored_bands(context, features, spec, part), {}),
        "trade-off": lambda part: (trade_off(context, features, spec, part), {}),
        "other kernels": lambda part: agreement(context, features, spec, part),
        "pictures": lambda part: _pictured(context, features, spec, tables, by_all()),
        "learning": lambda part: (learning(context, features, spec, part), {}),
        "robust data": lambda part: networks_on_robust_data(context, features, spec, by_half(), part),
        "certificates": lambda part: (
            certified(context, features, spec, tables.get("head_tail_meta", []), part),
            {},
        ),
    }
    for name, step in steps.items():
        with parts(name) as part:
            new_tables, new_arrays = step(part)
        tables |= {table: rows for table, rows in new_tables.items() if rows}
        arrays |= new_arrays
    progress(1.0)
    return StageResult(tables, arrays)


def _machines(context: Context, features: NTKFeatures, spec: FeaturesSpec, scored: Rows, progress: Progress) -> Tables:
    """Score machines of the first features, of head and tail, and of each category."""
    first = first_features(context, features, spec, progress.part(0.0, 0.7))
    return first | kept_features(context, features, scored, progress.part(0.7, 0.3))


def _pictured(
    context: Context, features: NTKFeatures, spec: FeaturesSpec, tables: Tables, chosen: dict[str, list[int]]
) -> tuple[Tables, Arrays]:
    """Picture features, head and tail, and the training images that carry the chosen ones."""
    meta = tables.get("head_tail_meta")
    of_features = pictures(context, features, spec, tables["features"], meta[0]["k"] if meta else None)
    of_images = label_energy_by_image(context, features, chosen)
    return of_features[0] | of_images[0], of_features[1] | of_images[1]


def check_features(context: Context, spec: FeaturesSpec) -> None:
    """Raise InputError, before a run is made, for too few images to compare on and for indices beyond the spectrum.

    Defaults that lie beyond the spectrum are no error: such features are left out.
    """
    if spec.certified:
        check_certified(context)
    n_train = len(context.data.train)
    classes = len(context.data.classes)
    asked = spec.model_fields_set
    if spec.compare and spec.compare_train is not None and spec.compare_train < classes:
        raise InputError(
            f"other kernels are fitted on images of all {classes} classes; `compare_train` asks for {spec.compare_train} "
            "images: ask for more."
        )
    if spec.scored is not None and "pictured" in asked and max(spec.pictured) >= spec.scored:
        raise InputError(
            f"features 0 to {spec.scored - 1} are scored, by `scored`; `pictured` asks for "
            f"{_field_text(spec, 'pictured')}: score more, or picture fewer."
        )
    # Each field with the numbers of features that its values need.
    needed = {
        "pictured": [index + 1 for index in spec.pictured],
        "scored": [spec.scored or 1],
        # The first k features of n are a choice only for k below n.
        "robust_ranks": [k + 1 for k in spec.robust_ranks] if spec.robust_networks else [],
    }
    for field, counts in needed.items():
        if field in asked and any(count > n_train for count in counts):
            raise InputError(
                f"{n_train} training images have features 0 to {n_train - 1}; `{field}` asks for "
                f"{_field_text(spec, field)}: ask for less, or give more images."
            )


def _field_text(spec: FeaturesSpec, field: str) -> str:
    value = getattr(spec, field)
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_rank(spec: FeaturesSpec, rank: int, n: int) -> None:
    """Raise InputError for features that were asked for although their eigenvalues are nothing but rounding."""
    pictured = "pictured" in spec.model_fields_set and max(spec.pictured) >= rank
    if pictured or (spec.scored or 0) > rank:
        raise InputError(
            f"the kernel matrix of these {n} images has {rank} eigenvalues above rounding, so features 0 to {rank - 1} "
            "(are there duplicates?); more are asked for by `pictured` or `scored`: ask for less."
        )
