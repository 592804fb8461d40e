"""One attack after the other on the user's network, each kept as soon as it is done, and every image that it is shown."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ntklens.attacks import logits_of, noise
from ntklens.attacks.checks import check_perturbed
from ntklens.attacks.run import METHODS, Counted
from ntklens.attacks.threat import Threat
from ntklens.files import written_whole
from ntklens.modules import guarded
from ntklens.progress import Parts, Progress
from ntklens.study.context import Context
from ntklens.study.parts import ATTACK
from ntklens.study.rows import share_right
from ntklens.study.spec import VictimSpec
from ntklens.study.stages.surrogate import Source, dead_gradients, is_surrogate, make_source, sources, without_gradients
from ntklens.study.streams import Stream
from ntklens.vocabulary import CLEAN, NOISE, SQUARE, WHITE_BOX

_ARRAYS = ("x_adv", "predictions")


class Asked(Counted):
    """The user's network, and a file that counts the images it was shown, so that the count outlives an interruption.

    Args:
        model: images to logits.
        file: the file, in a folder that exists; an earlier count in it is added to.
    """

    def __init__(self, model: nn.Module, file: Path) -> None:
        super().__init__(model)
        self.is_checked = True  # `checked_victim` has asked whether its logits depend on the rest of the batch
        self._file = file
        self._earlier = int(file.read_text(encoding="utf-8")) if file.exists() else 0

    @property
    def asked(self) -> int:
        """Number of images shown, with and without a gradient, those of interrupted runs among them."""
        return self._earlier + self.queries + self.gradients

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        try:
            return super().forward(x)
        finally:
            with written_whole(self._file) as partial:
                partial.write_text(str(self.asked), encoding="utf-8")


@dataclass(frozen=True)
class Attacked:
    """The images of one source and what the victim makes of them.

    Attributes:
        x_adv: (n, C, H, W) images.
        predictions: (n,) the victim's predictions on them.
        row: the row of the table "victim"; None where the source cannot attack this victim.
        source: the row of the table "victim_sources"; None for clean images and noise.
        note: what is to be said of this attack; None where it went as it should.
        making: images that the victim was shown to make these images, for a gradient or not.
        scoring: images that it was shown to score them.
        outputs: number of the victim's outputs; 0 where it was not asked.
    """

    x_adv: Tensor
    predictions: Tensor
    row: dict[str, Any] | None
    source: dict[str, Any] | None
    note: str | None
    making: int
    scoring: int
    outputs: int


def attack_by(
    context: Context, spec: VictimSpec, victim: Asked, name: str, clean: Attacked | None, parts: Parts
) -> Attacked:
    """Attack the victim by the images of one source, or take what an interrupted run has kept of it.

    Args:
        context: of the experiment; its scratch folder keeps what is done.
        spec: of the attack.
        victim: the user's network.
        name: "clean", "noise" or a source.
        clean: what the victim makes of clean images; None for these.
        parts: of the stage, whose progress is told.
    """
    file = context.scratch / f"{[CLEAN, NOISE, *sources(context, spec)].index(name)}.npz"
    if file.exists():
        return _read(file, context.spec.device)
    result = _attacked(context, spec, victim, name, clean, parts)
    values = {key: value for key, value in vars(result).items() if key not in _ARRAYS}
    arrays = {key: getattr(result, key).cpu().numpy() for key in _ARRAYS}
    with written_whole(file) as partial, partial.open("wb") as stream:
        np.savez(stream, values=np.array(json.dumps(values)), **arrays)
    return result


def _read(file: Path, device: str) -> Attacked:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
        arrays = {key: torch.from_numpy(kept[key]).to(device) for key in _ARRAYS}
        values: dict[str, Any] = json.loads(str(kept["values"]))
        return Attacked(**(arrays | values))


def rounded(x: Tensor) -> Tensor:
    """Return images in the nearest of the 256 values that a file with 8 bits per channel can hold."""
    return torch.round(255 * x) / 255


def _attacked(
    context: Context, spec: VictimSpec, victim: Asked, name: str, clean: Attacked | None, parts: Parts
) -> Attacked:
    x, y = context.test
    threat = context.threat
    before = victim.asked
    queries = victim.queries
    source, x_adv = None, x
    row: dict[str, Any] = {"source": name, "kind": name, "attack": name, "norm": threat.norm, "eps": threat.eps}
    cost: dict[str, Any] = {"gradient_evaluations": 0, "fitting_seconds": 0.0, "attack_seconds": 0.0}
    if name == CLEAN:
        row |= {"attack": "none", "eps": 0.0}
    elif name == NOISE:
        x_adv = noise(x, threat.eps, threat.norm, generator=context.generator(Stream.NOISE))
    else:
        if name == WHITE_BOX and (refusal := without_gradients(victim, x, y)):
            nothing = torch.zeros(0)
            return Attacked(nothing, nothing, None, None, refusal, victim.asked - before, 0, 0)
        source = make_source(context, spec, victim, name, parts)
        with parts(ATTACK) as progress:
            x_adv, cost = _images(context, spec, victim, source, progress)
        row |= {"kind": source.kind, "attack": SQUARE if name == SQUARE else spec.method}
        x_adv = check_perturbed(x_adv, x, Threat(threat.eps, threat.norm))
    making, queries = victim.asked - before, victim.queries - queries

    logits = logits_of(victim, x_adv)
    predictions = logits.argmax(1)
    right = predictions == y
    # Most clean images come from such files; then their rounding changes nothing, and nothing is asked.
    x_rounded = rounded(x_adv)
    rounded_right = right if torch.equal(x_rounded, x_adv) else logits_of(victim, x_rounded).argmax(1) == y
    clean_right = right if clean is None else clean.predictions == y
    row |= share_right(right).row("accuracy")
    row |= {
        "rounded_accuracy": share_right(rounded_right).value,
        "fooled": int((clean_right & ~right).sum()) / max(1, int(clean_right.sum())),
        "queries": queries,
        **cost,
    }
    note = dead_gradients(x, x_adv, clean_right) if name == WHITE_BOX and threat.eps > 0 else None
    return Attacked(
        x_adv, predictions, row, None if source is None else _source_row(source), note, making,
        victim.asked - before - making, logits.shape[1],
    )  # fmt: skip


def _source_row(source: Source) -> dict[str, Any]:
    row = {"source": source.name, "kind": source.kind, "sample": source.sample, "queries": source.queries}
    return row | {"time": source.time} | source.found


def _images(
    context: Context, spec: VictimSpec, victim: Asked, source: Source, progress: Progress
) -> tuple[Tensor, dict[str, Any]]:
    """Return the images that are made on a source, and the columns of their cost."""
    threat = context.threat
    x, y = context.test
    generator = context.generator(Stream.VICTIM)  # the same for each source, so that none depends on the others
    method = SQUARE if source.name == SQUARE else spec.method
    options = _options(context, spec, method, generator)
    if method == "pgd":
        options |= source.options
        if options.get("diversity"):
            options["generator"] = generator
    with guarded(source.model, x, y, generator=generator) as (model, x, y):
        counted = Counted(model) if is_surrogate(source.name) else victim
        gradients = counted.gradients
        start = time.perf_counter()
        x_adv = METHODS[method](counted, x, y, threat.eps, threat.norm, progress=progress, **options)
        cost = {
            "gradient_evaluations": counted.gradients - gradients + source.training_gradients,
            "fitting_seconds": source.seconds,
            "attack_seconds": time.perf_counter() - start,
        }
    return x_adv.detach(), cost


def _options(context: Context, spec: VictimSpec, method: str, generator: torch.Generator) -> dict[str, Any]:
    """Return the options of an attack, with a generator where it draws."""
    threat = context.threat
    if method == SQUARE:
        return {"queries": spec.queries, "generator": generator, "batch_size": 512}
    options: dict[str, Any] = {"loss": threat.loss}
    if method == "pgd":
        options |= {
            "steps": threat.steps,
            "momentum": spec.momentum,
            "diversity": spec.diversity,
            "translation": spec.translation,
        }
    return options
