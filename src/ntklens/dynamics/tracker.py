"""Recording how the kernel of a network moves while somebody trains it."""

from __future__ import annotations

import copy
import hashlib
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.dynamics import measures, store
from ntklens.dynamics.path import KernelPath
from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels import EmpiricalKernel, empirical_kernel

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images, classes) -> adversarial images."""
_BLOCK = 10
"""Images of the second series that are taken together."""


@runtime_checkable
class Writer(Protocol):
    """What TensorBoard's SummaryWriter does here."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Keep one value of a plot."""


class KernelTracker:
    """The empirical kernel on one fixed probe set of clean images, epoch by epoch.

    Two lines in any training loop: make a tracker before it, and call `tracker.record(network, epoch)` in it. The network
    is copied and put in eval mode for the measurement; its own mode, gradients and random state are left alone.

    Args:
        probe_x: images, the same ones at every epoch, so that a distance is due to the weights alone.
        probe_y: their classes.
        outputs: "trace" or "pseudo" kernel.
        top_k: how many eigenvectors count as the top ones.
        folder: each record is written there when it is made, so that a training that is killed keeps what it had; records
            of the same probe set that are there already are taken up.
        attack: (network, images, classes) -> adversarial images of the probe set, for a second series beside the first:
            `adversarial_cosine`, the mean cosine between the tangents of an image and those of its adversarial image, and
            `adversarial_trace`, the trace of the kernel on the adversarial images. With the one-step attack that a
            network is trained with, `overfitting_alarm` reads the first of them.

    Attributes:
        scalars: the other figures of each.
        seconds: time that `record` has taken so far, in this process.

    Raises:
        InputError: a probe set, outputs or top_k that do not fit, or a folder with records of another probe set.

    Example:
        >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
        >>> for epoch in range(3):
        ...     _ = tracker.record(nn.Linear(3, 2), epoch)
        >>> tracker.lazy_epoch(threshold=0.1) is None  # two velocities are no regime yet
        True
    """

    def __init__(
        self,
        probe_x: Float[Tensor, "n *shape"],
        probe_y: Int[Tensor, " n"],
        *,
        outputs: str = "trace",
        top_k: int = 10,
        folder: str | Path | None = None,
        attack: Attack | None = None,
    ) -> None:
        if len(probe_x) != len(probe_y) or not 1 <= top_k < len(probe_x):
            raise InputError(
                f"one label a probe image, and more images than top_k, were expected; {len(probe_x)} images, "
                f"{len(probe_y)} labels and top_k = {top_k} came."
            )
        if int(probe_y.min()) < 0:
            raise InputError(f"classes from 0 on were expected of the probe set; {int(probe_y.min())} came.")
        if outputs not in ("trace", "pseudo"):
            raise InputError(f'outputs must be "trace" or "pseudo", one value a pair of images; "{outputs}" came.')
        self.probe_x, self.probe_y = probe_x.detach().clone(), probe_y.detach().clone()
        self.outputs, self.top_k, self.attack = outputs, top_k, attack
        self.scalars: list[dict[str, float]] = []
        self.seconds = 0.0
        self._path = KernelPath(probe_y, top_k)
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for entry in store.read_all(self._folder, self._probe()):
                self._keep(entry)

    def record(self, module: nn.Module, epoch: float, **scalars: float) -> Tensor:
        """Measure the kernel now and keep it, with whatever else is to stand in this epoch's row.

        Loss and accuracy on the probe set are kept with it as `probe_loss` (cross-entropy, mean) and `probe_accuracy`. The
        last epoch may be recorded again, as a training that was taken up does; it is then replaced. A training taken up
        from an older checkpoint calls `rewind` first.

        Returns:
            The kernel matrix on the probe images, (n, n).

        Raises:
            InputError: an epoch before the last one.
            NumericalFailure: the kernel is not finite.
        """
        if self.epochs and epoch < self.epochs[-1]:
            raise InputError(
                f"epochs are recorded in order; {epoch:g} came after {self.epochs[-1]:g}: to train again from there, call "
                f"rewind({epoch:g}), which forgets that epoch and what came after it."
            )
        start = time.perf_counter()
        twin = copy.deepcopy(module).eval()
        measured = empirical_kernel(twin, self.outputs)
        kernel = measured(self.probe_x)
        if not bool(kernel.isfinite().all()):
            raise NumericalFailure(f"the kernel at epoch {epoch} is not finite: lower the training's learning rate.")
        entry = store.Entry(float(epoch), kernel.cpu(), self._scores(twin) | self._attacked(twin, measured) | scalars)
        self.rewind(epoch)
        if self._folder is not None:
            store.write(self._folder / store.name(len(self.epochs)), entry, self._probe())
        self._keep(entry)
        self.seconds += time.perf_counter() - start
        return kernel

    def rewind(self, epoch: float) -> None:
        """Forget what was recorded at an epoch and after it, in the folder too."""
        kept = sum(e < epoch for e in self.epochs)
        if kept < len(self.epochs):
            self._path.cut(kept)
            del self.scalars[kept:]
            if self._folder is not None:
                store.forget(self._folder, kept)

    def _keep(self, entry: store.Entry) -> None:
        self._path.append(entry.epoch, entry.kernel)
        self.scalars.append(entry.scalars)

    @torch.no_grad()
    def _scores(self, network: nn.Module) -> dict[str, float]:
        """Loss and accuracy on the probe set; one output f counts as the logits (-f/2, f/2)."""
        f, y = network(self._seen_by(network)), self.probe_y.long()
        f = torch.cat([-f / 2, f / 2], 1) if f.shape[1] == 1 else f
        if int(y.max()) >= f.shape[1]:
            raise InputError(
                f"classes from 0 to {f.shape[1] - 1}, as the network has outputs, were expected of the probe set; "
                f"{int(y.max())} came: number the classes from 0."
            )
        y = y.to(f.device)
        loss = nn.functional.cross_entropy(f.double(), y)
        return {"probe_loss": float(loss), "probe_accuracy": float((f.argmax(1) == y).double().mean())}

    def _seen_by(self, network: nn.Module) -> Tensor:
        """The probe images on the network's device and, unless they are integers, in its precision."""
        like = next((p for p in network.parameters() if p.is_floating_point()), self.probe_x)
        return self.probe_x.to(like) if self.probe_x.is_floating_point() else self.probe_x.to(like.device)

    def _attacked(self, network: nn.Module, kernel: EmpiricalKernel) -> dict[str, float]:
        """The second series, from small blocks: of the pairs of other images nothing is asked."""
        if self.attack is None:
            return {}
        x = self._seen_by(network)
        with torch.random.fork_rng():
            adversarial = self.attack(network, x, self.probe_y.to(x.device)).to(x)
        cosines, traces = [], []
        for here, there in zip(torch.split(x, _BLOCK), torch.split(adversarial, _BLOCK), strict=True):
            k = kernel(torch.cat([here, there])).double()
            own, across = k.diagonal(), k.diagonal(len(here))
            cosines.append(across / (own[: len(here)] * own[len(here) :]).sqrt())
            traces.append(own[len(here) :])
        return {
            "adversarial_cosine": float(torch.cat(cosines).mean()),
            "adversarial_trace": float(torch.cat(traces).sum()),
        }

    @property
    def epochs(self) -> list[float]:
        """Those recorded."""
        return self._path.epochs

    @property
    def kernels(self) -> Float[Tensor, "e n n"]:
        """All kernels so far."""
        self._begun()
        return torch.stack(self._path.kernels)

    def distance(self) -> Float[Tensor, "e e"]:
        """Kernel distance of every pair of epochs."""
        return measures.distance_map(self.kernels)

    def lazy_epoch(self, threshold: float) -> float | None:
        """The first epoch from which on the kernel's velocity stays below the threshold."""
        self._begun()
        return measures.lazy_epoch(self._path.velocities(), self.epochs, threshold)

    def row(self, number: int = -1) -> dict[str, float]:
        """Epoch, velocity, concentration, effective rank, trace, alignment, specialisation, polar path; the last one's.

        Alignment is the centred one with the labels (CKA), specialisation the mean over the classes. Polar coordinates
        are those of the whole kernel, and of its parts in its own top-k eigenspace and in the rest; their radius is a
        share of the last epoch's. Every scalar of any epoch stands beside them, NaN where none was given.
        """
        self._begun()
        own = self.scalars[number]
        return self._path.row(number) | {name: own.get(name, math.nan) for name in self._names()}

    def rows(self) -> list[dict[str, float]]:
        """One `row` an epoch."""
        self._begun()
        return [self.row(t) for t in range(len(self.epochs))]

    def _begun(self) -> None:
        if not self.epochs:
            raise InputError("nothing is recorded yet; call record(module, epoch) first.")

    def log(self, writer: Writer, tag: str = "kernel") -> None:
        """Write the last row to TensorBoard: call it after `record`.

        Args:
            writer: a `torch.utils.tensorboard.SummaryWriter`, or anything with its `add_scalar`.
            tag: the group of the plots.
        """
        for name, value in self.row().items():
            if name != "epoch" and not name.startswith("radius") and not math.isnan(value):
                writer.add_scalar(f"{tag}/{name}", value, round(self.epochs[-1]))

    def save(self, path: str | Path) -> None:
        """Write kernels, epochs and scalars as one npz, under this very name."""
        names = self._names()
        table = [[row.get(name, math.nan) for name in names] for row in self.scalars]
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                kernels=self.kernels.numpy(),
                epochs=np.array(self.epochs),
                names=np.array(names, dtype=str),
                scalars=np.array(table).reshape(len(table), len(names)),
                probe=np.array(self._probe()),
            )

    def restore(self, path: str | Path) -> KernelTracker:
        """Take up what another tracker of the same probe set has saved; recording goes on from there.

        Raises:
            InputError: no such file, another kind of file, or the kernels of other images or outputs.
        """
        try:
            with open(path, "rb") as stored, np.load(stored, allow_pickle=False) as file:
                kernels, epochs, probe = file["kernels"], file["epochs"], str(file["probe"])
                names, table = [str(n) for n in file["names"]], file["scalars"]
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give a file written by KernelTracker.save.") from None
        except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a file written by KernelTracker.save.") from error
        if probe != self._probe():
            raise InputError(
                f"{path} has kernels of other probe images or outputs; give the tracker those that it was made with."
            )
        self._path.cut(0)
        for epoch, kernel in zip(epochs, torch.from_numpy(kernels), strict=True):
            self._path.append(float(epoch), kernel)
        self.scalars = [dict(zip(names, map(float, row), strict=True)) for row in table]
        return self

    def _names(self) -> list[str]:
        return sorted({name for row in self.scalars for name in row})

    def _probe(self) -> str:
        """What the kernels are of, in short: outputs, and a digest of the probe set."""
        digest = hashlib.sha256()
        for t in (self.probe_x, self.probe_y):
            digest.update(str(tuple(t.shape)).encode() + t.cpu().numpy().tobytes())
        return f"{self.outputs} {digest.hexdigest()}"
