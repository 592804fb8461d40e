"""The description of an experiment: frozen, readable from TOML, and complete."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ntklens.errors import InputError
from ntklens.study.spec_data import DataSpec
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.spec_part import Part, read_network
from ntklens.transfer import check_surrogate, surrogate_name
from ntklens.vocabulary import SQUARE, WHITE_BOX


class KernelSpec(Part):
    """The kernel machine: the network, its parametrisation, and the ridge of the machine at t = ∞.

    Attributes:
        architecture: a network as in `ntklens.networks.network_source`; a saved machine brings its kernel, its filter and
            its training images.
        weights: file of the weights of a network from a factory.
        kind: "analytic" for the kernel of infinite width, "empirical" for the tangent kernel of the network with these
            weights, or with initial ones drawn from the seed where there are none.
        width: hidden units or channels of an architecture whose empirical kernel is taken.
        w_std: standard deviation of the weights; a user's network has its own parametrisation in an empirical kernel.
        b_std: standard deviation of the biases, likewise.
        ridge: ridge of the machine.
    """

    architecture: str = "fc1"
    weights: Path | None = None
    kind: Literal["analytic", "empirical"] = "analytic"
    width: int = Field(default=128, ge=1)
    w_std: float = Field(default=2**0.5, gt=0)
    b_std: float = Field(default=0.1, ge=0)
    ridge: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _has_an_effect(self) -> KernelSpec:
        source = read_network(self.architecture, self.weights)
        fields = type(self).model_fields
        changed = [f for f in ("w_std", "b_std", "ridge") if getattr(self, f) != fields[f].default]
        if source.kind == "machine" and changed:
            raise ValueError(
                f"{source.text} brings its kernel and its filter, and {', '.join(changed)} would have no effect; leave "
                f"{'it' if len(changed) == 1 else 'them'} out"
            )
        std = [name for name in changed if name != "ridge"]
        if self.kind == "empirical" and source.kind == "factory" and std:
            raise ValueError(
                f"the empirical kernel of {source.label} has the network's own weights, and {' and '.join(std)} would have "
                f"no effect; leave {'it' if len(std) == 1 else 'them'} out"
            )
        return self


class AttackSpec(Part):
    """The threat model. Radii are in units of the pixels, which lie in [0, 1].

    `steps`, `step_size` and `loss` are those of PGD wherever a model is attacked as a whole. Attacks on single features
    have their own number of steps, `features.steps`, and so have the trainings of `dynamics`, `dynamics.attack_steps`.
    `curve` holds the radii at which the kernel machine itself is attacked; without any, that stage is left out.
    """

    norm: Literal["linf", "l2"] = "linf"
    eps: float = Field(default=8 / 255, ge=0)
    steps: int = Field(default=10, ge=1)
    step_size: float | None = Field(default=None, gt=0)
    curve: tuple[float, ...] = tuple(e / 255 for e in (0, 2, 4, 8, 16, 32))
    gallery: int = Field(default=6, ge=0)
    loss: Literal["cross-entropy", "margin", "dlr"] = "cross-entropy"

    @field_validator("eps")
    @classmethod
    def _within_the_pixels(cls, eps: float, info: Any) -> float:
        if info.data.get("norm") == "linf" and eps > 1:
            raise ValueError("pixels lie in [0, 1], so ε in linf is at most 1 (eight pixel steps are 8/255)")
        return eps

    def step_size_at(self, eps: float) -> float | None:
        """Return the step size of PGD at a radius: in proportion to the one that is given for `self.eps`, if any."""
        return None if self.step_size is None or self.eps == 0 else self.step_size * eps / self.eps


class LazySpec(Part):
    """The width study: networks of the kernel's architecture under full-batch gradient descent, attacked from outside."""

    widths: tuple[int, ...] = (64, 256, 1024)
    seeds: int = Field(default=2, ge=1)
    steps: int = Field(default=150, ge=1)
    rate: float = Field(default=1.0, gt=0, lt=2)
    """Learning rate as a multiple of 1 / λ_1."""
    checkpoints: tuple[int, ...] = ()
    """Steps of the training at which the widest networks are measured."""
    regimes: tuple[Literal["lazy", "large learning rate", "standard parametrisation", "cross-entropy, SGD"], ...] = ()
    """Kinds of training that are compared by the gap between the kernel's images and the white box."""
    regime_width: int | None = Field(default=None, ge=1)
    """Width of those networks; the largest of `widths` by default."""
    regime_epochs: int = Field(default=30, ge=1)
    """Epochs of the training that minimises the cross-entropy."""

    @field_validator("checkpoints")
    @classmethod
    def _increasing(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if any(a >= b for a, b in zip((0, *steps), steps, strict=False)):
            raise ValueError("expected steps from 1 on in increasing order")
        return steps


SEARCHES = ("search", "cross-entropy", "match")
"""Values of a surrogate's time for which images are set aside to find it."""


class VictimSpec(Part):
    """The user's own network, and how it is attacked.

    Attributes:
        path: "file.py:factory", a TorchScript or exported program, or a machine of `KernelMachine.save` with the
            experiment's kernel.
        weights: file of the weights, for a factory.
        surrogates: what the images are made on, one attack each: "white-box" (the victim itself), "square" (the victim is
            asked for outputs alone), or models that do not look inside the victim: an architecture, "file.py:factory", or
            a name as in `ntklens.transfer.surrogate`. A text is one name.
        sample: training images that a surrogate may see.
        time: training time ηt of a kernel surrogate: "search" takes the one whose images fool the victim most on a hundred
            images set aside, "cross-entropy" the same among machines trained on the cross-entropy, "match" the one whose
            outputs on these are most like the victim's, "inf", or a number.
        method: attack on each model; "square" makes the white box an attack by queries.
        queries: most queries of the victim per image of "square".
    """

    path: str
    weights: Path | None = None
    surrogates: tuple[str, ...] = (WHITE_BOX,)
    sample: int = Field(default=1000, ge=2)
    time: str = "search"
    method: Literal["fgsm", "pgd", "square"] = "pgd"
    queries: int = Field(default=1000, ge=1)
    momentum: float = Field(default=0.0, ge=0)
    diversity: float = Field(default=0.0, ge=0, le=1)
    translation: int = Field(default=0, ge=0)
    width: int = Field(default=64, ge=1)
    epochs: int = Field(default=10, ge=1)
    checks: bool = True

    @model_validator(mode="after")
    def _network_fits(self) -> VictimSpec:
        read_network(self.path, self.weights, "victim")
        return self

    @field_validator("translation")
    @classmethod
    def _has_a_middle(cls, side: int) -> int:
        if side and side % 2 == 0:
            raise ValueError("expected translation as 0 or an odd number of pixels, so that its window has a middle")
        return side

    @property
    def sources(self) -> tuple[str, ...]:
        """What the images are made on, in order; under the method "square" the victim is asked for outputs alone."""
        names = [SQUARE if name == WHITE_BOX and self.method == SQUARE else name for name in self.surrogates]
        return tuple(dict.fromkeys(names))

    @field_validator("surrogates", mode="before")
    @classmethod
    def _one_name(cls, names: Any) -> Any:
        return (names,) if isinstance(names, str) else names

    @field_validator("surrogates")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or "" in names or len(set(names)) < len(names):
            raise ValueError("expected one name or more, each of them once")
        return names

    @field_validator("time")
    @classmethod
    def _time(cls, time: str) -> str:
        try:
            fits = time in (*SEARCHES, "inf") or float(time) >= 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError('expected "search", "cross-entropy", "match", "inf" or a number from 0 on')
        return time


class TransferSpec(Part):
    """Surrogates against victims of several architectures and seeds, trained on all training images.

    Surrogates are named as in `ntklens.transfer.surrogate`, victims as in `ntklens.networks.network_source`. A victim that
    brings weights is taken as it is, without training.
    """

    surrogates: tuple[str, ...] = Field(
        default=("noise", "linear", "rbf", "ntk:fc1", "ntk:fc3", "net:fc2", "net:small-cnn"), min_length=1
    )
    victims: tuple[str, ...] = Field(default=("fc2", "small-cnn"), min_length=1)
    seeds: int = Field(default=3, ge=1)
    sample: int = Field(default=1000, ge=2)
    """Training images that surrogates are fitted on; trained ones take as many steps on them as the victims on all."""
    width: int = Field(default=64, ge=1)
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=0.05, gt=0)

    def has_a_given_network(self) -> bool:
        """Return whether a victim or a surrogate is a network of the user's, which may have outputs of other classes."""
        networks = [read_network(name) for name in self.victims]
        networks += [network for name in self.surrogates if (network := surrogate_name(name).network) is not None]
        return any(network.kind != "architecture" for network in networks)

    @field_validator("victims")
    @classmethod
    def _known_victims(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            read_network(name)
        return names

    @field_validator("surrogates")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                check_surrogate(name)
            except InputError as error:
                raise ValueError(str(error)) from None
        return names


_Positive = Annotated[int, Field(ge=1)]
_Place = Annotated[int, Field(ge=0)]


class FeaturesSpec(Part):
    """The features that are scored and pictured, the kernels they are compared with, and what networks learn from them."""

    steps: int = Field(default=1, ge=1)
    """Steps of the attack on each feature: 1 for one step, more for projected gradient ascent."""
    scored: int | None = Field(default=None, ge=1)
    top_k: tuple[_Positive, ...] = (1, 2, 5, 10, 20, 50, 100, 200, 400)
    pictured: tuple[_Place, ...] = Field(default=(0, 1, 2, 5, 10, 50, 200), min_length=1)
    images: int = Field(default=4, ge=1)
    frames: int = Field(default=0, ge=0)
    """Frames of an animation over the index of the feature; 0 for none."""
    compare: tuple[str, ...] = ("fc3", "fc10")
    """Networks whose features are compared with the experiment's; their kernels are of the experiment's kind."""
    subspace: int = Field(default=20, ge=2)
    compare_train: int | None = Field(default=None, ge=4)
    """Training images of the comparison; costly kernels want fewer."""
    compare_test: int | None = Field(default=None, ge=1)
    compare_images: int = Field(default=8, ge=1)
    trade_off: int = Field(default=13, ge=2)
    """Number of training times, and of ridges, of the trade-off."""
    learning_steps: int = Field(default=0, ge=0)
    """Steps of gradient descent of a finite network that is watched for the features it picks up; 0 for none."""
    learning_width: int = Field(default=512, ge=1)
    robust_networks: tuple[str, ...] = ()
    """Networks that are trained on data with some features only."""
    robust_ranks: tuple[_Positive, ...] = (5, 20)
    robust_seeds: int = Field(default=3, ge=1)
    robust_epochs: int = Field(default=60, ge=1)
    robust_width: int = Field(default=32, ge=1)
    certified: int = Field(default=0, ge=0)
    """Test images, of those that did not choose the head, on which machines and features are certified; 0 for none."""
    certified_radii: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.125, 0.25, 0.5, 1.0), min_length=1
    )
    """Radii at which machines are certified, as parts of the radius of the attack, which has to be one of them."""
    certified_features: int = Field(default=20, ge=1)
    """Single features that are certified, those of largest eigenvalue."""

    @field_validator("certified_radii")
    @classmethod
    def _up_to_the_attack(cls, radii: tuple[float, ...]) -> tuple[float, ...]:
        # What is proved at a smaller radius says nothing beside what the attack does at its own.
        if 1.0 not in radii:
            raise ValueError("expected 1, the radius of the attack, among the parts")
        return tuple(sorted(set(radii)))


class Spec(Part):
    """An experiment; a part that is None is not run."""

    kind: str = "study"
    title: str = "A network through its tangent kernel"
    seed: int = Field(default=0, ge=0)
    device: str = "cpu"
    data: DataSpec = DataSpec()
    kernel: KernelSpec = KernelSpec()
    attack: AttackSpec | None = None
    victim: VictimSpec | None = None
    lazy: LazySpec | None = None
    transfer: TransferSpec | None = None
    features: FeaturesSpec | None = None
    dynamics: DynamicsSpec | None = None

    @model_validator(mode="after")
    def _has_a_given_network(self) -> Spec:
        d = self.dynamics
        is_given = self.victim is not None or (self.transfer is not None and self.transfer.has_a_given_network())
        is_given = is_given or (d is not None and (d.watch is not None or d.weights is not None))
        if self.data.outputs is not None and not is_given:
            raise ValueError("data.outputs are those of a network that is given; there is none. Leave them out")
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Spec:
        """Return a spec from plain values.

        Raises:
            InputError: a value that does not fit, named with its place.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ").rstrip(".")
            value = "" if isinstance(first["input"], dict) else f"; got {first['input']!r}"
            raise InputError(f"the experiment's `{place}` does not fit: {what}{value}.") from None

    @classmethod
    def read(cls, path: str | Path) -> Spec:
        """Return a spec from a TOML file.

        Raises:
            InputError: no such file, not TOML, or a value that does not fit.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give a TOML file with an experiment.") from None
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror}); give a TOML file with an experiment."
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not readable as TOML: {error}.") from None
        return cls.parse(values)
