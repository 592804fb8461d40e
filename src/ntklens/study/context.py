"""What the stages of an experiment share: the data, the kernel machine, the threat model and the seed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ntklens.attacks import fgsm, noise, pgd
from ntklens.data import Dataset, load_dataset
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.networks import NetworkSource, network_source, with_logits
from ntklens.progress import Parts, Progress
from ntklens.study.parts import Estimate
from ntklens.study.spec import AttackSpec, Spec
from ntklens.study.spec_data import DataSpec
from ntklens.study.streams import Stream
from ntklens.transfer import SurrogateName, network_kernel, surrogate_name, tangent_network

Rows = list[dict[str, Any]]
"""The rows of a table."""
Arrays = dict[str, NDArray[Any]]
"""Arrays of a stage by their names."""


@dataclass
class StageResult:
    """What a stage adds to the record: tables and arrays by their names."""

    tables: dict[str, Rows] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


class Context:
    """Everything that several stages use, computed when it is first asked for.

    Args:
        spec: the experiment.
        scratch: folder for the work of a stage that has not finished; by default a temporary folder, which cannot be found
            again by a later run.
        say: takes a line that a stage tells while it works.

    Raises:
        InputError: the device does not exist.
    """

    def __init__(self, spec: Spec, scratch: Path | None = None, say: Callable[[str], None] = lambda line: None) -> None:
        self.spec = spec
        self.say = say
        self._scratch = scratch
        self.estimate: Estimate = {}
        self.victim_seconds = 0.0  # of the user's network on one image, as `checked_victim` has met it
        self._parts: dict[str, Parts] = {}
        if spec.device != "cpu" and not torch.cuda.is_available():
            raise InputError(f'the device "{spec.device}" is not there; use --device cpu.')

    def on(self, data: DataSpec | None) -> Context:
        """Return this experiment on other images, with the same scratch folder and the same accounts; itself for None."""
        if data is None:
            return self
        other = Context(self.spec.model_copy(update={"data": data}), self.scratch, self.say)
        other.estimate, other._parts = self.estimate, self._parts
        return other

    @cached_property
    def scratch(self) -> Path:
        """The folder from which a stage that was interrupted goes on."""
        return self._scratch or Path(tempfile.mkdtemp(prefix="ntklens-"))

    @cached_property
    def data(self) -> Dataset:
        """The images of the experiment, on the CPU."""
        d = self.spec.data
        return load_dataset(
            d.name, classes=d.classes, train=d.train, test=d.test, data_dir=d.data_dir, size=d.size, mode=d.mode
        )

    @property
    def outputs(self) -> int:
        """Number of outputs of a network for this task: one for two classes, else one per class."""
        return 1 if len(self.data.classes) == 2 else len(self.data.classes)

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Training images and their classes, on the experiment's device."""
        return self.data.train.x.to(self.spec.device), self.data.train.y.to(self.spec.device)

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        """Test images and their classes, on the experiment's device."""
        return self.data.test.x.to(self.spec.device), self.data.test.y.to(self.spec.device)

    @property
    def threat(self) -> AttackSpec:
        """The threat model; the default one where the experiment has none."""
        return self.spec.attack or AttackSpec()

    @cached_property
    def network(self) -> NetworkSource:
        """The network of the experiment's kernel."""
        return network_source(self.spec.kernel.architecture, self.spec.kernel.weights)

    @property
    def kernel_label(self) -> str:
        """What the experiment's kernel is called in tables: "fc3 kernel" or "model.py:build empirical kernel"."""
        empirical = "empirical " if self.spec.kernel.kind == "empirical" and self.network.kind != "machine" else ""
        return f"{self.network.label} {empirical}kernel"

    def kernel(self, network: str | NetworkSource | None = None) -> Kernel:
        """Return a kernel of the experiment's kind: of a network, by default of the experiment's own.

        Raises:
            InputError: the network does not load, or its weights are wanted and there are none.
            UnsupportedLayer: the network has no infinite-width kernel.
        """
        source = network_source(network) if isinstance(network, str) else network or self.network
        return self.kernel_of(SurrogateName("entk" if self.spec.kernel.kind == "empirical" else "ntk", source, ()))

    def kernel_of(self, name: SurrogateName) -> Kernel:
        """Return the kernel of a surrogate with a network, with the experiment's parametrisation and seed."""
        device = self.spec.device
        return network_kernel(name, self.data.shape, self.outputs, **self._parameters, device=device)

    def tangent_network(self, source: NetworkSource) -> nn.Module:
        """Return the network whose empirical kernel the experiment takes."""
        return tangent_network(source, self.data.shape, self.outputs, **self._parameters).to(self.spec.device)

    @property
    def _parameters(self) -> dict[str, Any]:
        """What networks and kernels by name are made with."""
        k = self.spec.kernel
        return {"width": k.width, "w_std": k.w_std, "b_std": k.b_std, "seed": self.spec.seed}

    def surrogate(self, name: str) -> SurrogateName:
        """Return what a surrogate's name stands for; a network alone is its kernel, of the experiment's kind."""
        return surrogate_name(name, self.spec.kernel.kind)

    @cached_property
    def machine(self) -> KernelMachine:
        """The kernel machine at t = ∞ on the training images, or the saved machine that the experiment names."""
        if self.network.kind == "machine":
            machine = KernelMachine.load(self.network.text).to(self.spec.device)
            if tuple(machine.train_inputs.shape[1:]) != self.data.shape:
                raise InputError(
                    f"expected images of shape {tuple(machine.train_inputs.shape[1:])}, on which {self.network.text} was "
                    f"fitted; the data have {self.data.shape}. Choose other data, or another machine."
                )
            with_logits(machine, self.test[0][:2], len(self.data.classes))
            fitted = max(2, machine.targets.shape[1])
            if fitted != len(self.data.classes):
                raise InputError(
                    f"expected data of {fitted} classes, on which {self.network.text} was fitted; got "
                    f"{len(self.data.classes)}. Choose its classes, in its order (--classes), or another machine."
                )
            return machine
        return KernelMachine(self.kernel(), Ridge(self.spec.kernel.ridge)).fit(*self.train)

    def fitted(self, progress: Progress) -> KernelMachine:
        """Return `machine`; where it has not been asked for yet, its fit tells its progress."""
        if "machine" not in self.__dict__ and self.network.kind != "machine":
            unfitted = KernelMachine(self.kernel(), Ridge(self.spec.kernel.ridge))
            self.__dict__["machine"] = unfitted.fit(*self.train, progress=progress)
        return self.machine

    def parts(self, stage: str, progress: Progress, weights: Mapping[str, float]) -> Parts:
        """Return the parts of a stage, whose shares of its progress are what they are estimated to take.

        Args:
            stage: name of the stage.
            progress: of the stage.
            weights: the parts in their order, with weights that stand in where there is no estimate.
        """
        estimated = {part.name: part.seconds for part in self.estimate.get(stage, [])}
        if estimated and set(estimated) <= set(weights):
            weights = {name: estimated.get(name, 0.0) for name in weights}
        self._parts[stage] = Parts(progress, weights)
        return self._parts[stage]

    def cost(self, stage: str) -> Rows:
        """Return a row per part of a stage: the seconds that were estimated, if any, and those that it has taken."""
        estimated = {part.name: part.seconds for part in self.estimate.get(stage, [])}
        taken = self._parts[stage].seconds if stage in self._parts else {}
        return [
            {"stage": stage, "part": name, "estimated": estimated.get(name), "taken": taken.get(name)}
            for name in dict.fromkeys([*estimated, *taken])
            if max(estimated.get(name, 0.0), taken.get(name, 0.0)) > 0
        ]

    def generator(self, *stream: int) -> torch.Generator:
        """Return the generator of a random stream, which depends on the experiment's seed and on nothing else.

        Args:
            *stream: the numbers of the stream: a `Stream` and what tells its parts apart, or a network's width and seed
                and a `NetworkStream`.
        """
        seed = self.spec.seed
        for number in stream:
            seed = seed * 1_000_003 + number + 1
        return torch.Generator().manual_seed(seed % (1 << 63))

    def seed(self, *stream: int) -> int:
        """Return a seed for torch's global generator, drawn from a random stream."""
        return int(torch.randint(1 << 31, (1,), generator=self.generator(*stream)))

    def attacked(
        self, attack: str, model: Any, x: Tensor, y: Tensor, eps: float, progress: Progress | None = None
    ) -> Tensor:
        """Return attacked images; the norm, the steps and the loss are those of the threat model.

        Args:
            attack: "none", "noise", "fgsm" or "pgd".
            model: images to logits.
            x: clean images.
            y: their classes.
            eps: radius of the attack.
            progress: receives the share of the attack that is done.
        """
        threat = self.threat
        if attack == "none" or eps == 0:
            return x
        if attack == "noise":
            return noise(x, eps, threat.norm, generator=self.generator(Stream.NOISE, 0))
        if attack == "fgsm":
            return fgsm(model, x, y, eps, threat.norm, loss=threat.loss, progress=progress)
        step_size = threat.step_size_at(eps)
        options: dict[str, Any] = {"steps": threat.steps, "loss": threat.loss, "progress": progress}
        return pgd(model, x, y, eps, threat.norm, step_size=step_size, **options)

    def attacked_test(self, attack: str, model: Any) -> Tensor:
        """Return the test images, attacked at the radius of the threat model."""
        return self.attacked(attack, model, *self.test, self.threat.eps)
