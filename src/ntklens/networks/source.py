"""One way to name a network: an architecture, a function in a Python file, a saved program, or a saved kernel machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from ntklens.errors import InputError
from ntklens.networks.architectures import Shape, build, is_architecture
from ntklens.networks.load import is_program, load_network
from ntklens.networks.seeded import seeded_network

Kind = Literal["architecture", "factory", "program", "machine"]

_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<factory>[^\W\d]\w*)(?:@(?P<weights>.+))?")


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from, as users name it on the command line, in experiment files and in lists.

    Attributes:
        text: what the user wrote, without the weights.
        kind: "architecture" (`fc3`), "factory" (`file.py:factory`), "program" (TorchScript or an exported program) or
            "machine" (a file of `KernelMachine.save`).
        weights: file of the weights of a factory's network; None for the weights that the factory gives it.
    """

    text: str
    kind: Kind
    weights: str | None = None

    @property
    def label(self) -> str:
        """The name for tables and figures: without the folders of the files."""
        if self.kind == "architecture":
            return self.text
        file, colon, factory = self.text.rpartition(":") if self.kind == "factory" else (self.text, "", "")
        return Path(file).name + colon + factory + ("" if self.weights is None else f"@{Path(self.weights).name}")

    @property
    def is_trained(self) -> bool:
        """Whether the network is used with the weights that it has: given ones, or those of a saved program or machine."""
        return self.weights is not None or self.kind in ("program", "machine")

    def build(self, shape: Shape, outputs: int, *, width: int = 64, seed: int = 0) -> nn.Module:
        """Build or load the network, in eval mode unless it is an architecture.

        Args:
            shape: shape of one input, for an architecture.
            outputs: number of outputs of an architecture; a user's network has its own.
            width: hidden units or channels of an architecture.
            seed: of the initial weights, those of a factory included.

        Raises:
            InputError: the network does not load, or it is a kernel machine, which is no network.
        """
        if self.kind == "machine":
            raise InputError(f"expected a network; got the kernel machine {self.text}. Give fc3, or file.py:factory.")
        if self.kind == "architecture":
            return seeded_network(lambda: build(self.text, shape, outputs, width=width), seed)
        return seeded_network(lambda: load_network(self.text, self.weights), seed)

    def draws_its_weights(self) -> bool:
        """Return whether a factory gives its network other weights for another seed, as torch's own layers do.

        A factory that loads weights itself gives the same ones each time, and its network counts as trained.
        """
        if self.kind != "factory" or self.weights is not None:
            return self.kind == "architecture"
        one, other = (self.build((), 0, seed=seed).state_dict() for seed in (0, 1))
        return any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def network_source(text: str, weights: str | Path | None = None) -> NetworkSource:
    """Return where a network comes from.

    Args:
        text: `fc3` and other architectures; `file.py:factory`, or `file.py:factory@weights` with a file of its weights;
            a `.pt2`, `.pt`, `.ts` or `.torchscript` file with a program; or the `.safetensors` file of a kernel machine.
        weights: the file of the weights of a factory, given beside it.

    Raises:
        InputError: none of these, or weights for a network that brings its own.

    Example:
        >>> network_source("nets/model.py:resnet@runs/best.pt").label
        'model.py:resnet@best.pt'
    """
    given = None if weights is None else str(weights)
    if (match := _FACTORY.fullmatch(text)) is not None:
        if given is not None and match["weights"] is not None:
            raise InputError(f"expected one file of weights for {text}; got {given} too. Leave one of them out.")
        return NetworkSource(f"{match['file']}:{match['factory']}", "factory", match["weights"] or given)
    kind: Kind
    if is_architecture(text):
        kind = "architecture"
    elif text.endswith(".safetensors"):
        kind = "machine"
    elif is_program(text):
        kind = "program"
    elif "/" in text or "." in text or ":" in text:
        load_network(text)  # which says what is wrong with it
        raise InputError(f'expected a network; got "{text}".')
    else:
        build(text, (1, 8, 8), 1, width=1)
        raise InputError(f'expected a network; got "{text}".')
    if given is not None:
        raise InputError(f"{text} takes no weights; give --weights with a network as file.py:factory.")
    return NetworkSource(text, kind)


def labels(sources: Iterable[NetworkSource]) -> dict[NetworkSource, str]:
    """Return a name of each network for tables: its label, or all of what the user wrote where two labels are equal."""
    distinct = list(dict.fromkeys(sources))
    short = [source.label for source in distinct]
    return {
        source: label if short.count(label) == 1 else source.text + (f"@{source.weights}" if source.weights else "")
        for source, label in zip(distinct, short, strict=True)
    }
