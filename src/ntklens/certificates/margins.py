"""Bounds of a machine's margins, from those of its outputs."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Threat
from ntklens.attacks.losses import margin
from ntklens.bounds import BallBounds, KernelBounds
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.targets import class_logits


class Margins:
    """Bounds of a machine's margins: of the scalar output for two classes, of differences of outputs for more.

    Args:
        machine: a fitted machine.
        memory_limit: bytes of working memory, about.
    """

    def __init__(self, machine: KernelMachine, memory_limit: int = 1 << 30) -> None:
        self._function = machine.expand(machine.coefficients, torch.float64)
        self._coefficients = machine.coefficients.to(torch.float64)
        self._bounds = KernelBounds(machine.kernel, machine.double_inputs, memory_limit)
        self.classes = max(2, self._coefficients.shape[1])

    def _logits(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return class_logits(self._function(x.to(torch.float64)))

    def at(self, x: Tensor, y: Tensor) -> Float[Tensor, " m"]:
        """Compute the margins at images, in float64."""
        return margin(self._logits(x), y) if len(x) else torch.empty(0, dtype=torch.float64)

    def predicted(self, x: Tensor) -> Int[Tensor, " m"]:
        """Return the classes that are predicted."""
        return self._logits(x).argmax(1)

    def rivals(self, label: int) -> Float[Tensor, "n F"]:
        """Return the coefficients whose functions are all positive where this class is predicted."""
        return rivals(self._coefficients, label)

    def linear(
        self,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        progress: Report | None = None,
        radii: Tensor | None = None,
    ) -> Float[Tensor, " m"]:
        """Bound the margins over balls by tangents and chords.

        Args:
            x: (m, *shape), images.
            y: (m,), classes.
            threat: the balls.
            progress: called with the share of the images that are done.
            radii: (m,), a radius for each image in place of the threat's.
        """
        result, report, done = torch.empty(len(x), dtype=torch.float64), Progress(progress), 0
        for label in torch.unique(y).tolist():
            columns = self.rivals(label)
            chosen = (y == label).nonzero().flatten()
            own = None if radii is None else radii[chosen]
            for rows, part in self._bounds.parts(x[chosen], threat, columns.shape[1], own):
                result[chosen[rows]] = part.linear(columns).amin(1)
                done += len(chosen[rows])
                report.step(done, len(x))
        return result

    def quadratic(
        self,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        progress: Report | None = None,
        radii: Tensor | None = None,
    ) -> Float[Tensor, " m"]:
        """Bound the margins by the second bound, against the rivals that the first one leaves open; as `linear`."""
        result, report = torch.empty(len(x), dtype=torch.float64), Progress(progress)
        for rows, part in self._bounds.parts(x, threat, max(1, self.classes - 1), radii):
            for place, i in enumerate(range(rows.start, min(rows.stop, len(x)))):
                result[i] = self._second(part, place, int(y[i]))
                report.step(i + 1, len(x))
        return result

    def _second(self, part: BallBounds, place: int, label: int) -> float:
        """Bound one margin against the rivals in the order of their first bounds, until one stays open."""
        columns = self.rivals(label)
        found = part.linear(columns)[place]
        for rival in found.argsort().tolist():
            if found[rival] <= 0:
                found[rival] = torch.maximum(found[rival], part.quadratic(place, columns[:, rival]))
                if found[rival] <= 0:
                    break
        return float(found.min())


def rivals(outputs: Float[Tensor, "n O"], label: int) -> Float[Tensor, "n F"]:
    """Return the differences between a class's column and each other one; for one column, which is f, f or -f.

    Args:
        outputs: coefficients or values of a machine's outputs.
        label: the class.
    """
    if outputs.shape[1] == 1:
        return outputs if label else -outputs
    others = [c for c in range(outputs.shape[1]) if c != label]
    return outputs[:, label, None] - outputs[:, others]
