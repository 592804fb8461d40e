"""What the stages of an experiment share: the data, the machine, the seed, and a line to whoever watches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.attacks import fgsm, noise, pgd
from ntklens.data import Dataset, load_dataset
from ntklens.errors import InputError
from ntklens.kernels import AnalyticKernel, analytic_kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import build
from ntklens.study.spec import AttackSpec, Spec

Progress = Callable[[float], None]
"""Called with the share of a stage that is done."""


@dataclass
class StageResult:
    """What a stage adds to the record."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


class Context:
    """Everything a stage may use, each made when first asked for."""

    def __init__(self, spec: Spec, scratch: Path | None = None) -> None:
        self.spec = spec
        self._scratch = scratch
        if spec.device != "cpu" and not torch.cuda.is_available():
            raise InputError(f'the device "{spec.device}" is not there; use --device cpu.')

    @cached_property
    def scratch(self) -> Path:
        """A folder for what a stage that is interrupted goes on from; without a run, one that nobody finds again."""
        return self._scratch or Path(tempfile.mkdtemp(prefix="ntklens-"))

    @cached_property
    def data(self) -> Dataset:
        """The images of the experiment, on its device."""
        d = self.spec.data
        return load_dataset(d.name, classes=d.classes, train=d.train, test=d.test, data_dir=d.data_dir)

    @property
    def outputs(self) -> int:
        """Outputs of a network for this task: one for two classes, else one a class."""
        return 1 if len(self.data.classes) == 2 else len(self.data.classes)

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Training images and classes."""
        return self.data.train.x.to(self.spec.device), self.data.train.y.to(self.spec.device)

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Test images and classes."""
        return self.data.test.x.to(self.spec.device), self.data.test.y.to(self.spec.device)

    @property
    def attack(self) -> AttackSpec:
        """The threat model; the default one where the experiment names none."""
        return self.spec.attack or AttackSpec()

    def kernel(self, architecture: str | None = None) -> AnalyticKernel:
        """The analytic kernel of an architecture, the experiment's own by default."""
        k = self.spec.kernel
        network = build(architecture or k.architecture, self.data.shape, self.outputs)
        return analytic_kernel(network, k.w_std, k.b_std)

    @cached_property
    def machine(self) -> KernelMachine:
        """The kernel machine at t = ∞ on the training images."""
        return KernelMachine(self.kernel(), Ridge(self.spec.kernel.ridge)).fit(*self.train)

    def generator(self, *stream: int) -> torch.Generator:
        """A generator of its own for each purpose, so that stages can be run alone."""
        seed = self.spec.seed
        for part in stream:
            seed = seed * 1_000_003 + part + 1
        return torch.Generator().manual_seed(seed % (1 << 63))

    def run_attack(self, name: str, model: Any, x: Tensor, y: Tensor, eps: float, stream: int = 0) -> Tensor:
        """Attacked images by name: "none", "noise", "fgsm" or "pgd" with the experiment's norm and steps."""
        a = self.attack
        if name == "none" or eps == 0:
            return x
        if name == "noise":
            return noise(x, eps, a.norm, generator=self.generator(77, stream))
        if name == "fgsm":
            return fgsm(model, x, y, eps, a.norm, loss=a.loss)
        return pgd(model, x, y, eps, a.norm, steps=a.steps, step_size=_step(a, eps), loss=a.loss)

    def images_of(self, name: str, model: Any) -> Tensor:
        """The test images, attacked at the experiment's radius."""
        return self.run_attack(name, model, *self.test, self.attack.eps)


def _step(attack: AttackSpec, eps: float) -> float | None:
    """The stated step at the stated radius, in proportion at others."""
    return None if attack.step_size is None or attack.eps == 0 else attack.step_size * eps / attack.eps
