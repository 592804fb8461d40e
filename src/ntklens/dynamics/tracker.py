"""Recording how the kernel of a network moves during any training."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.arguments import as_classes, as_count, as_number, as_path, as_tensor, check_finite, shape_of
from ntklens.dynamics import measures, store
from ntklens.dynamics.adversarial import tangent_series
from ntklens.dynamics.path import NAMES, KernelPath
from ntklens.dynamics.settling import Settling
from ntklens.dynamics.store import EpochRecord
from ntklens.errors import InputError, NumericalFailure
from ntklens.kernels import EmpiricalKernel, empirical_kernel
from ntklens.modules import copied_function
from ntklens.networks.outputs import is_probability
from ntklens.targets import class_logits

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(network, images, classes) -> adversarial images."""
_RESERVED = {*NAMES, "probe_loss", "probe_accuracy", "adversarial_cosine", "adversarial_trace", "settled"}
"""Names of the figures that a tracker measures itself."""


@runtime_checkable
class ScalarWriter(Protocol):
    """The part of TensorBoard's SummaryWriter that `KernelTracker.log` needs."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add one value to a plot."""


class KernelTracker:
    """The empirical kernel of a network in training on one fixed probe set of clean images, epoch by epoch.

    It takes two lines in any training loop: make a tracker before it, and call `tracker.record(network, epoch)` in it. The
    measurement is made on a copy of the network in eval mode; the network's own mode, gradients and random state stay as
    they are.

    Args:
        probe_x: probe images, fixed for all epochs, so that only the weights move the kernel.
        probe_y: their classes, indices from 0 on.
        outputs: "trace" or "pseudo" kernel.
        top_k: number of leading eigenvectors that span the top eigenspace.
        folder: folder to which every record is written as soon as it is made, so that a training that is killed loses
            none. Records of the same probe set that are already in it are read, and recording goes on from there.
        fresh: start anew: records that are already in the folder are kept in FOLDER.before (or FOLDER.before-2, ...).
        attack: (network, images, classes) -> adversarial images of the probe set. It adds two figures to every row:
            `adversarial_cosine`, the mean cosine between the tangents of an image and of its adversarial image, and
            `adversarial_trace`, the trace of the kernel on the adversarial images. With the one-step attack that the
            network is trained with, `overfitting_alarm` reads the cosine.

    Attributes:
        scalars: for each record, the figures that are not computed from its kernel, by name.
        seconds: time that `record` has taken so far in this process.

    Raises:
        InputError: the probe set, the outputs or top_k do not fit, or the folder has records of another probe set.

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
        fresh: bool = False,
        attack: Attack | None = None,
    ) -> None:
        probe_x, probe_y = as_tensor(probe_x, "probe_x"), as_tensor(probe_y, "probe_y")
        check_finite(probe_x, "probe_x")
        top_k = as_count(top_k, "top_k")
        if not isinstance(fresh, bool):
            raise InputError(f"expected fresh as True or False; got {fresh!r}.")
        if attack is not None and not callable(attack):
            raise InputError(f"expected attack as a function of network, images and classes; got {attack!r}.")
        if probe_x.ndim == 0 or probe_y.ndim == 0 or len(probe_x) != len(probe_y) or not 1 <= top_k < len(probe_x):
            raise InputError(
                "expected one label per probe image, and more probe images than top_k; "
                f"got probe_x of {shape_of(probe_x)}, probe_y of {shape_of(probe_y)} and top_k = {top_k}."
            )
        probe_y = as_classes(probe_y, len(probe_x), "probe_y")
        if int(probe_y.min()) < 0:
            raise InputError(f"expected probe classes from 0 on; got {int(probe_y.min())}.")
        if outputs not in ("trace", "pseudo"):
            raise InputError(
                f'expected outputs "trace" or "pseudo", which give one value per pair of images; got "{outputs}".'
            )
        self.probe_x, self.probe_y = probe_x.detach().clone(), probe_y.detach().clone()
        self.outputs, self.top_k, self.attack = outputs, top_k, attack
        self.scalars: list[dict[str, float]] = []
        self.seconds = 0.0
        self._has_warned = False
        self._network = ""  # of the last record; empty where it is not known
        self._path = KernelPath(probe_y, top_k)
        self._folder = None if folder is None else as_path(folder, "folder")
        if self._folder is not None:
            store.make_folder(self._folder)
            if fresh:
                store.set_aside(self._folder)
            for record in store.read_all(self._folder, self._fingerprint()):
                self._append(record)
            if self.epochs and not store.has_probe(self._folder):  # records of an earlier version
                store.write_probe(self._folder, store.Probe(self.probe_y, self.top_k))

    def __repr__(self) -> str:
        epochs = f"epochs {self.epochs[0]:g} to {self.epochs[-1]:g}" if self.epochs else "nothing yet"
        return f"KernelTracker({len(self.probe_x)} probe images, {len(self.epochs)} records: {epochs})"

    def record(self, module: nn.Module, epoch: float, **scalars: float) -> Tensor:
        """Measure the kernel of a network and record it.

        Loss and accuracy on the probe set are recorded too, as `probe_loss` (mean cross-entropy) and `probe_accuracy`; they
        are NaN, with a warning, for a single output that has passed a sigmoid. The last epoch may be recorded again, as a
        resumed training does; the record is then replaced. A training that is resumed from an older checkpoint calls
        `rewind` first.

        Args:
            module: the network, on any device and in any precision.
            epoch: number of epochs that it has been trained for.
            scalars: further figures for the row of this epoch, under names of their own; `advice` reads the rate `lr`.

        Returns:
            The kernel matrix on the probe images, (n, n).

        Raises:
            InputError: the epoch is before the last one, the network lacks classes of the probe set or has parameters of
                other shapes than before, or a scalar has the name of a measure.
            NumericalFailure: the kernel is not finite.
        """
        epoch = _epoch(epoch)
        for name, value in scalars.items():
            if name in _RESERVED:
                raise InputError(
                    f"expected figures of other names than the measures; got {name}. Give it another name."
                )
            if isinstance(value, bool) or not isinstance(value, (float, int, np.number, Tensor, np.ndarray)):
                raise InputError(f"expected the figure {name} as a number; got {value!r}.")
        if self.epochs and epoch < self.epochs[-1]:
            raise InputError(
                f"expected epochs in ascending order; got {epoch:g} after {self.epochs[-1]:g}. To train again from there, "
                f"call rewind({epoch:g}), which removes the records from that epoch on."
            )
        start = time.perf_counter()
        # Eval mode fixes dropout and the statistics of BatchNorm, so that the kernel is a function of the weights. It is
        # set on a copy, because the training goes on with the network as it was.
        network = copied_function(module).eval()
        shapes = _shapes(network)
        if self.epochs and epoch > self.epochs[0] and self._network not in ("", shapes):
            raise InputError(
                "expected the module with parameters of the shapes that were recorded before; got another network. Give "
                "it a tracker and a folder of its own, or start anew with KernelTracker(..., fresh=True)."
            )
        measured = empirical_kernel(network, self.outputs)
        kernel = measured(self.probe_x)
        if not bool(kernel.isfinite().all()):
            raise NumericalFailure(f"the kernel at epoch {epoch} is not finite. Lower the training's learning rate.")
        figures = self._scores(network) | self._adversarial(network, measured) | scalars
        record = EpochRecord(float(epoch), kernel.cpu(), figures, shapes)
        # The measurement has succeeded: now an earlier record of this epoch may be removed.
        self.rewind(epoch)
        if self._folder is not None:
            store.write_probe(self._folder, store.Probe(self.probe_y, self.top_k))
            store.write(self._folder, len(self.epochs), record, self._fingerprint())
        self._append(record)
        self.seconds += time.perf_counter() - start
        return kernel

    def rewind(self, epoch: float) -> None:
        """Remove the records from an epoch on, in the folder too.

        Raises:
            InputError: the epoch is no number.
        """
        epoch = _epoch(epoch)
        remaining = sum(e < epoch for e in self.epochs)
        if remaining < len(self.epochs):
            self._path.truncate(remaining)
            del self.scalars[remaining:]
            if self._folder is not None:
                store.remove_from(self._folder, remaining)

    def _append(self, record: EpochRecord) -> None:
        self._path.append(record.epoch, record.kernel)
        self.scalars.append(record.scalars)
        self._network = record.network

    def _scores(self, network: nn.Module) -> dict[str, float]:
        """Compute loss and accuracy on the probe set; NaN, with a warning, where the output is a probability."""
        with torch.enable_grad():
            f = network(self._probe_for(network))
        if f.shape[1] == 1 and is_probability(f):
            if not self._has_warned:
                warnings.warn(
                    "probe_loss and probe_accuracy need one logit, positive for the second class; got an output that is "
                    "a probability, as a sigmoid gives it, so they are recorded as NaN. Return the value before the "
                    "sigmoid.",
                    stacklevel=3,
                )
            self._has_warned = True
            return {"probe_loss": math.nan, "probe_accuracy": math.nan}
        logits, y = class_logits(f.detach()), self.probe_y.long()
        classes = logits.shape[1]
        if int(y.max()) >= classes:
            raise InputError(
                f"expected probe classes from 0 to {classes - 1}, for which the network has outputs; got {int(y.max())}. "
                "Number the classes from 0."
            )
        y = y.to(logits.device)
        loss = nn.functional.cross_entropy(logits.double(), y)
        return {"probe_loss": float(loss), "probe_accuracy": float((logits.argmax(1) == y).double().mean())}

    def _probe_for(self, network: nn.Module) -> Tensor:
        """Return the probe images on the network's device and, unless they are integers, in its precision."""
        like = next((p for p in network.parameters() if p.is_floating_point()), self.probe_x)
        return self.probe_x.to(like) if self.probe_x.is_floating_point() else self.probe_x.to(like.device)

    def _adversarial(self, network: nn.Module, kernel: EmpiricalKernel) -> dict[str, float]:
        """Compute the mean cosine between clean and adversarial tangents, and the trace on the adversarial images."""
        if self.attack is None:
            return {}
        x = self._probe_for(network)
        with torch.random.fork_rng():  # an attack that draws numbers leaves the training's random state as it is
            x_adv = self.attack(network, x, self.probe_y.to(x.device)).to(x)
        return tangent_series(kernel, x, x_adv)

    @property
    def epochs(self) -> list[float]:
        """The recorded epochs."""
        return self._path.epochs

    @property
    def kernels(self) -> Float[Tensor, "e n n"]:
        """The recorded kernels."""
        self._check_recorded()
        return torch.stack(self._path.kernels)

    def distance(self) -> Float[Tensor, "e e"]:
        """Compute the kernel distance of every pair of epochs."""
        return measures.distance_map(self.kernels)

    def settling(self) -> Settling:
        """Return when the kernel settles: the epoch, the area under its distance to the end, and that distance.

        The noise of the steps, which the velocity consists of once the kernel has settled, does not move it.

        Example:
            >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
            >>> network = nn.Linear(3, 2)
            >>> for epoch in range(8):
            ...     _ = tracker.record(network, epoch)
            >>> tracker.settling().epoch, tracker.settling().area  # the kernel of a linear network never moves
            (0.0, 0.0)
        """
        self._check_recorded()
        return self._path.settling()

    def lazy_epoch(self, threshold: float) -> float | None:
        """Return the first epoch from which on the kernel's velocity stays below the threshold.

        None where it does not, or does so for fewer than the last three records.

        It tells of the noise of the steps, not of laziness: late in a training the velocity is that noise, which depends
        on the learning rate and the size of the batches. Use `settling` to learn when the kernel has come to its end.

        Args:
            threshold: velocity, in kernel distance per epoch.
        """
        self._check_recorded()
        if as_number(threshold, "threshold") < 0:
            raise InputError(f"expected threshold of 0 or more; got {threshold}.")
        return measures.lazy_epoch(self._path.velocities(), self.epochs, threshold)

    def row(self, number: int = -1) -> dict[str, float]:
        """Return the measures of one record, by name: of the last one by default.

        The measures are epoch, velocity, concentration, effective rank, that of the centred cosine kernel (`centred_rank`),
        the distance to the end (`Settling.distance`; NaN for the last record), trace, alignment (centred, with the labels:
        CKA), specialisation (mean over the classes), and the polar path of the whole kernel and of its parts in its own
        top-k eigenspace and in the rest; a radius is a share of the last record's. The scalars follow, with NaN for those
        that only other records have.

        Args:
            number: place of the record in the sequence.
        """
        self._check_recorded()
        place = as_count(number, "number", least=-len(self.epochs))
        if place >= len(self.epochs):
            raise InputError(f"expected number as the place of one of {len(self.epochs)} records; got {number}.")
        scalars = self.scalars[place]
        return self._path.row(number) | {name: scalars.get(name, math.nan) for name in self._names()}

    def rows(self) -> list[dict[str, float]]:
        """Return one `row` per record."""
        self._check_recorded()
        return [self.row(t) for t in range(len(self.epochs))]

    def _check_recorded(self) -> None:
        if not self.epochs:
            raise InputError("nothing is recorded yet. Call record(module, epoch) first.")

    def log(self, writer: ScalarWriter, tag: str = "kernel") -> None:
        """Write the last row to TensorBoard, as `logged` gives it; call it after `record`.

        Args:
            writer: a `torch.utils.tensorboard.SummaryWriter`, or an object with its `add_scalar`.
            tag: name of the group of plots.
        """
        for name, value in self.logged().items():
            writer.add_scalar(f"{tag}/{name}", value, round(self.epochs[-1]))

    def logged(self) -> dict[str, float]:
        """Return what `log` writes: `settled` (1 or 0), and the last row without NaN, radii and distances to the end.

        Radii are shares of the last record's, and the distances are known of earlier records only.
        """
        left_out = ("epoch", "radius", "distance")
        row = {n: v for n, v in self.row().items() if not n.startswith(left_out) and not math.isnan(v)}
        return row | {"settled": float(self.settling().has_settled)}

    def save(self, folder: str | Path) -> None:
        """Write the records into a folder, one file per epoch, in place of earlier records of the same probe set.

        Both `restore` and a tracker that is made with this folder read them.

        Raises:
            InputError: nothing is recorded yet, or the folder is a file or has records of another probe set.
        """
        self._check_recorded()
        folder = as_path(folder, "folder")
        columns = zip(self.epochs, self._path.kernels, self.scalars, strict=True)
        store.write_all(folder, [EpochRecord(*fields, self._network) for fields in columns], self._fingerprint())
        store.write_probe(folder, store.Probe(self.probe_y, self.top_k))

    def restore(self, folder: str | Path) -> KernelTracker:
        """Replace the records by those of another tracker with the same probe set; recording goes on from there.

        Args:
            folder: a folder written by `save`, or that of a tracker.

        Raises:
            InputError: the folder does not exist, holds no records or has those of another probe set.
        """
        folder = as_path(folder, "folder")
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder. Give one written by KernelTracker.save.")
        records = store.read_all(folder, self._fingerprint())
        if not records:
            raise InputError(f"{folder} holds no records. Give a folder written by KernelTracker.save.")
        self._path.truncate(0)
        self.scalars.clear()
        for record in records:
            self._append(record)
        if self._folder is not None and self._folder.resolve() != folder.resolve():
            self.save(self._folder)
        return self

    def _names(self) -> list[str]:
        return sorted({name for scalars in self.scalars for name in scalars})

    def _fingerprint(self) -> str:
        """Return the outputs and a digest of the probe set, which tell whether two kernels can be compared."""
        digest = hashlib.sha256()
        for t in (self.probe_x, self.probe_y):
            digest.update(str(tuple(t.shape)).encode() + t.cpu().numpy().tobytes())
        return f"{self.outputs} {digest.hexdigest()}"


def _shapes(network: nn.Module) -> str:
    """Return a digest of the shapes of all parameters, whatever their names and their order."""
    shapes = sorted(str(tuple(parameter.shape)) for parameter in network.parameters())
    return hashlib.sha256(" ".join(shapes).encode()).hexdigest()


def _epoch(value: float) -> float:
    """Return a number of epochs as a plain one."""
    epoch = as_number(value, "epoch")
    if not math.isfinite(epoch):
        raise InputError(f"expected epoch as a finite number; got {value}.")
    return epoch
