"""What all parts of an experiment's description have in common."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ntklens.errors import InputError
from ntklens.networks import NetworkSource, network_source


class Part(BaseModel):
    """A part: frozen, without unknown fields, and with finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def read_network(text: str, weights: Path | None = None, role: str = "architecture") -> NetworkSource:
    """Return the network that a text names; `role` is what a message calls it.

    Raises:
        ValueError: it names none; pydantic reports the error with its place.
    """
    try:
        return network_source(text, weights)
    except InputError as error:
        raise ValueError(f"{role}: {error}") from None
