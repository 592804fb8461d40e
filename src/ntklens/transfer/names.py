"""The names of surrogates: what images are made on, as users write it in lists and on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from ntklens.errors import InputError
from ntklens.networks import NetworkSource, is_architecture, network_source

VARIANTS: dict[str, dict[str, Any]] = {
    "mi": {"momentum": 1.0},
    "di": {"diversity": 0.5},
    "ti": {"translation": 5},
}
"""Options of `pgd` that "+mi", "+di" and "+ti" after a surrogate's name stand for."""
Kind = Literal["noise", "linear", "rbf", "ntk", "entk", "net"]
"""What a surrogate is: a control, a kernel of an untrained network, the tangent kernel of a finite network, or a
network."""


@dataclass(frozen=True)
class SurrogateName:
    """A surrogate's name, read.

    Attributes:
        kind: what it is.
        network: the network of a kernel, or the one that is trained; None for noise and the controls.
        variants: of the attack, keys of `VARIANTS`.
    """

    kind: Kind
    network: NetworkSource | None
    variants: tuple[str, ...]

    def label(self, labels: Mapping[NetworkSource, str] | None = None) -> str:
        """Return the name for tables.

        Args:
            labels: names of the networks, from `ntklens.networks.labels`; by default their files without the folders.
        """
        base: str = self.kind
        if self.network is not None:
            base += ":" + (self.network.label if labels is None else labels[self.network])
        return "+".join((base, *self.variants))


def surrogate_name(name: str, kernel: str = "analytic") -> SurrogateName:
    """Read a surrogate's name.

    Args:
        name: as in `surrogate`; a network alone, such as "fc3" or "file.py:factory", stands for its kernel.
        kernel: the kernel of a network alone: "analytic" for that of infinite width, "empirical" for the tangent kernel of
            the network with the weights of its file, or else with initial ones.

    Raises:
        InputError: an unknown name, network or variant.

    Example:
        >>> surrogate_name("fc3+mi").label(), surrogate_name("nets/model.py:resnet@best.pt", "empirical").label()
        ('ntk:fc3+mi', 'entk:model.py:resnet@best.pt')
    """
    if not isinstance(name, str):
        raise InputError(f"expected a surrogate by its name, such as ntk:fc3; got {name!r}.")
    match = re.fullmatch(r"(?P<base>.+?)(?P<variants>(\+\w+)*)", name)
    base, variants = (match["base"], match["variants"].split("+")[1:]) if match else ("", [])
    kind, _, rest = base.partition(":")
    known = all(variant in VARIANTS for variant in variants) and not (base == "noise" and variants)
    if known and base in ("noise", "linear", "rbf"):
        return SurrogateName(cast("Kind", base), None, tuple(variants))
    has_kind = kind in ("ntk", "entk", "net")
    is_network = bool(rest) if has_kind else is_architecture(base) or "." in base or "/" in base
    if not known or not is_network:
        raise InputError(
            "expected noise, linear, rbf, ntk:NETWORK (its kernel, no training), entk:NETWORK (the tangent kernel with its "
            "weights) or net:NETWORK (trained), where NETWORK is fc3 or file.py:factory, with "
            f"{', '.join('+' + variant for variant in VARIANTS)} for variants of the attack; got the surrogate "
            f'"{name}".'
        )
    if not has_kind:
        kind, rest = ("entk" if kernel == "empirical" else "ntk"), base
    return SurrogateName(cast("Kind", kind), network_source(rest), tuple(variants))


def check_weights_matter(network: NetworkSource) -> None:
    """Raise InputError for a network with weights whose analytic kernel is asked for, which does not depend on them."""
    if network.weights is not None or network.kind == "program":
        raise InputError(
            f"expected a network without weights for its analytic kernel, which does not depend on them; got "
            f"{network.label}. Take the tangent kernel with these weights, entk:NETWORK or --kernel empirical, or leave "
            "the weights out."
        )


def check_surrogate(name: str) -> None:
    """Raise InputError unless the surrogate name is known.

    Raises:
        InputError: an unknown name, network or variant.
    """
    surrogate_name(name)
