"""The description of trainings, or of checkpoints to watch, whose kernels are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ntklens.study.spec_data import DataSpec
from ntklens.study.spec_part import Part, read_network

_WATCH_FIELDS = {"watch", "model", "patience", "probe", "top_k", "lazy_threshold", "attack_steps", "watch_test"}
"""Fields of a DynamicsSpec that also apply when checkpoints are watched."""


class DynamicsSpec(Part):
    """A network trained on clean and on adversarial images, its kernel measured after every epoch.

    The network is named as in `ntklens.networks.network_source`; with `weights`, every training starts from these. The
    defaults are the recipe that decides claim C7 on ten classes of clothes (docs/results.md): without momentum the kernel
    settles within the training, and three or more paired seeds give an interval.
    """

    architecture: str = "small-cnn"
    weights: Path | None = None
    width: int = Field(default=32, ge=1)
    trainings: tuple[Literal["standard", "FGSM", "PGD"], ...] = Field(default=("standard", "PGD"), min_length=1)
    seeds: int = Field(default=1, ge=1)
    epochs: int = Field(default=40, ge=2)
    batch_size: int = Field(default=100, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    attack_steps: int = Field(default=5, ge=1)
    """Steps of PGD, in training and in the test."""
    data: DataSpec | None = None
    """Images of the trainings, where they are other ones than the experiment's."""
    test_every: int = Field(default=10, ge=1)
    """Epochs between two tests under attack; the last epoch has one, and with one-step training every epoch has one."""
    probe: int = Field(default=100, ge=2)
    top_k: int = Field(default=10, ge=1)
    lazy_threshold: float = Field(default=0.01, gt=0)
    linear_from: tuple[int, ...] = ()
    """Epochs from which the network's first-order expansion is trained on, on clean and on adversarial images."""
    linear_epochs: int = Field(default=10, ge=1)
    linear_rate: float = Field(default=0.01, gt=0)
    machine_train: int = Field(default=0, ge=0)
    """Training images of kernel machines on the networks' kernels; 0 for no machines."""
    machine_test: int = Field(default=500, ge=1)
    """Test images that machines and expansions are attacked on."""
    queries: int = Field(default=200, ge=1)
    """Queries per image of the attack without gradients (Square) on machines and expansions."""
    machine_ridge: float = Field(default=0.0, ge=0)
    watch: Path | None = None
    """A folder whose checkpoints are measured instead of trainings of the experiment."""
    model: str | None = None
    """The network of the checkpoints, file.py:factory."""
    patience: float = Field(default=0.0, ge=0)
    """Seconds to wait for further checkpoints."""
    watch_test: int = Field(default=500, ge=1)
    """Test images that checkpoints are scored on at most, clean and under attack: evenly spread over all of them."""

    @model_validator(mode="after")
    def _network_fits(self) -> DynamicsSpec:
        read_network(self.architecture, self.weights)
        return self

    @field_validator("trainings", "linear_from")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("expected each value once")
        return values

    @model_validator(mode="after")
    def _watches_or_trains(self) -> DynamicsSpec:
        fields = type(self).model_fields
        beside = sorted(f for f in set(fields) - _WATCH_FIELDS if getattr(self, f) != fields[f].default)
        if self.watch is not None and beside:
            it = "it" if len(beside) == 1 else "them"
            raise ValueError(
                f"where checkpoints are watched nothing is trained, and {', '.join(beside)} would have no effect; leave "
                f"{it} out"
            )
        return self

    @model_validator(mode="after")
    def _within_the_training(self) -> DynamicsSpec:
        if any(not 0 <= epoch <= self.epochs for epoch in self.linear_from):
            got = ", ".join(map(str, self.linear_from))
            raise ValueError(f"linear_from takes epochs from 0 to {self.epochs}, the last of the training; got {got}")
        return self
