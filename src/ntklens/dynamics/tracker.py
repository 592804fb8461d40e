"""Recording how the kernel of a network moves while somebody trains it."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.dynamics import measures
from ntklens.errors import InputError
from ntklens.kernels import empirical_kernel


class KernelTracker:
    """The empirical kernel on one fixed probe set of clean images, epoch by epoch.

    Two lines in any training loop: make a tracker before it, and call `tracker.record(network, epoch)` in it. The network
    is copied and put in eval mode for the measurement; its own mode, gradients and random state are left alone.

    Args:
        probe_x: images, the same ones at every epoch, so that a distance is due to the weights alone.
        probe_y: their classes.
        outputs: "trace" or "pseudo" kernel.
        top_k: how many eigenvectors count as the top ones.
    """

    def __init__(
        self,
        probe_x: Float[Tensor, "n *shape"],
        probe_y: Int[Tensor, " n"],
        *,
        outputs: str = "trace",
        top_k: int = 10,
    ) -> None:
        if len(probe_x) != len(probe_y) or not 1 <= top_k < len(probe_x):
            raise InputError(
                f"as many classes as probe images, and top_k below their number, were expected; {len(probe_x)} images, "
                f"{len(probe_y)} classes and top_k = {top_k} came."
            )
        self.probe_x, self.probe_y = probe_x, probe_y
        self.outputs, self.top_k = outputs, top_k
        self.epochs: list[float] = []
        self.scalars: list[dict[str, float]] = []
        self._kernels: list[Tensor] = []

    def record(self, module: nn.Module, epoch: float, **scalars: float) -> Tensor:
        """Measure the kernel now and keep it, with whatever else is to stand in this epoch's row.

        Returns:
            The kernel matrix on the probe images, (n, n).
        """
        if self.epochs and epoch <= self.epochs[-1]:
            raise InputError(f"epochs are recorded in order; {epoch} came after {self.epochs[-1]}.")
        twin = copy.deepcopy(module).eval()
        kernel = empirical_kernel(twin, self.outputs)(self.probe_x)
        self._kernels.append(kernel.cpu())
        self.epochs.append(epoch)
        self.scalars.append(scalars)
        return kernel

    @property
    def kernels(self) -> Float[Tensor, "e n n"]:
        """All kernels so far."""
        if not self._kernels:
            raise InputError("nothing is recorded yet; call record(module, epoch) first.")
        return torch.stack(self._kernels)

    def distance(self) -> Float[Tensor, "e e"]:
        """Kernel distance of every pair of epochs."""
        return measures.distance_map(self.kernels)

    def lazy_epoch(self, threshold: float) -> float | None:
        """The first epoch from which on the kernel's velocity stays below the threshold."""
        return measures.lazy_epoch(measures.velocity(self.kernels, self.epochs), self.epochs, threshold)

    def rows(self) -> list[dict[str, float]]:
        """One row an epoch: velocity, concentration, effective rank, trace, alignment, polar coordinates, scalars."""
        kernels = self.kernels
        spectra = torch.linalg.eigvalsh(kernels.double())
        targets = nn.functional.one_hot(self.probe_y.long()).double().cpu()
        paths = {
            "": measures.polar(kernels),
            "_top": measures.polar(torch.stack([measures.restricted(k, self.top_k, top=True) for k in kernels])),
            "_bottom": measures.polar(torch.stack([measures.restricted(k, self.top_k, top=False) for k in kernels])),
        }
        velocity = measures.velocity(kernels, self.epochs)
        rows = []
        for t, epoch in enumerate(self.epochs):
            row = {
                "epoch": epoch,
                "velocity": velocity[t],
                "concentration": measures.concentration(spectra[t], self.top_k),
                "effective_rank": measures.effective_rank(spectra[t]),
                "trace": float(spectra[t].sum()),
                "alignment": measures.alignment(kernels[t], targets),
            }
            for name, path in paths.items():
                row |= {f"radius{name}": path.radius[t], f"angle{name}": path.angle[t]}
            rows.append(row | self.scalars[t])
        return rows

    def save(self, path: str | Path) -> None:
        """Write kernels, epochs and scalars as one npz."""
        names = sorted({name for row in self.scalars for name in row})
        table = np.array([[row.get(name, math.nan) for name in names] for row in self.scalars])
        np.savez_compressed(
            path,
            kernels=self.kernels.numpy(),
            epochs=np.array(self.epochs),
            names=np.array(names, dtype=str),
            scalars=table,
        )

    def restore(self, path: str | Path) -> KernelTracker:
        """Take up what another tracker of the same probe set has saved; recording goes on from there."""
        try:
            with np.load(path, allow_pickle=False) as file:
                kernels, epochs = file["kernels"], file["epochs"]
                names, table = [str(n) for n in file["names"]], file["scalars"]
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give a file written by KernelTracker.save.") from None
        except (KeyError, ValueError) as error:
            raise InputError(f"{path} is not a file written by KernelTracker.save.") from error
        if kernels.shape[1] != len(self.probe_x):
            raise InputError(f"{path} has kernels of {kernels.shape[1]} images; the probe has {len(self.probe_x)}.")
        self._kernels = list(torch.from_numpy(kernels))
        self.epochs = [float(e) for e in epochs]
        self.scalars = [{n: float(v) for n, v in zip(names, row, strict=True) if not math.isnan(v)} for row in table]
        return self
