"""Kinds of input, by the sort of the argument, each with what is expected of a public function that is given it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

RIGHT = "right"
"""The result is that of the clean argument, to rounding."""
REFUSED = "refused"
"""One sentence that names the argument."""


@dataclass(frozen=True)
class Kind:
    """One way in which an argument differs from the clean one."""

    name: str
    make: Callable[[Any], Any]
    expected: str


def _read_only(value: torch.Tensor) -> np.ndarray:
    array = value.numpy().copy()
    array.setflags(write=False)
    return array


def _spread(value: torch.Tensor) -> torch.Tensor:
    """Return the same values, not next to one another in memory."""
    wide = torch.zeros(*value.shape[:-1], 2 * value.shape[-1], dtype=value.dtype)
    wide[..., ::2] = value
    return wide[..., ::2]


def _with(value: torch.Tensor, entry: float) -> torch.Tensor:
    changed = value.clone(memory_format=torch.contiguous_format)
    changed.view(-1)[-1] = entry
    return changed


def value_of(value: Any) -> Callable[[Any], Any]:
    return lambda clean: value


def instead(make: Callable[[], Any]) -> Callable[[Any], Any]:
    return lambda clean: make()


def refused(**values: Any) -> tuple[Kind, ...]:
    """Return kinds that are refused: each a value, or a function that makes one from the clean argument."""
    return tuple(Kind(name.replace("_", " "), _maker(value), REFUSED) for name, value in values.items())


def right(**values: Any) -> tuple[Kind, ...]:
    """Return kinds that give the clean result: each a value, or a function that makes one from the clean argument."""
    return tuple(Kind(name.replace("_", " "), _maker(value), RIGHT) for name, value in values.items())


def _maker(value: Any) -> Callable[[Any], Any]:
    return value if type(value) is type(_maker) else value_of(value)


FORMS = right(
    array=lambda v: v.numpy(),
    read_only_array=_read_only,
    backwards_array=lambda v: v.flip(0).numpy()[::-1],
    other_byte_order=lambda v: v.numpy().astype(v.numpy().dtype.newbyteorder(">")),
    list=lambda v: v.tolist(),
    non_contiguous=_spread,
)
"""Forms in which a tensor may come."""

NO_TENSOR = refused(
    nothing=None,
    text="x",
    ragged=[[1.0], [1.0, 2.0]],
    array_of_texts=np.array([["a"]]),
    sparse=lambda v: v.to_sparse(),
    other_device=lambda v: v.to("meta"),
)

NUMBERS = (
    *FORMS,
    *NO_TENSOR,
    *right(requires_grad=lambda v: v.clone().requires_grad_(), float64=lambda v: v.double()),
    *refused(
        nan=lambda v: _with(v, torch.nan),
        infinite=lambda v: _with(v, torch.inf),
        integers=lambda v: (255 * v).to(torch.uint8),
        truth_values=lambda v: v > 0.5,
        complex=lambda v: v.to(torch.complex64),
    ),
)
"""Floating-point tensors."""

INPUTS = (*NUMBERS, *refused(wrong_rank=lambda v: v.flatten(), other_shape=lambda v: v[..., :-1]))
"""Batches of inputs of a known shape."""

IMAGES = (*INPUTS, *refused(above_the_bounds=lambda v: v + 7, below_the_bounds=lambda v: v - 7))
"""Batches of images within bounds."""

CLASSES = (
    *FORMS,
    *NO_TENSOR,
    *right(int32=lambda v: v.int(), uint8=lambda v: v.byte()),
    *refused(
        too_few=lambda v: v[:-1],
        too_many=lambda v: torch.cat([v, v]),
        a_column=lambda v: v[:, None],
        a_number=lambda v: v[0],
        floats=lambda v: v.float(),
        nan=lambda v: _with(v.float(), torch.nan),
        truth_values=lambda v: v > 0,
        complex=lambda v: v.to(torch.complex64),
        negative=lambda v: v - 1,
        out_of_range=lambda v: v + 7,
    ),
)
"""Class indices, one per input."""

_NO_NUMBER = {"nothing": None, "text": "x", "nan": float("nan"), "two": [0.1, 0.2], "complex": 1j}

NUMBER = refused(**{"truth value": True}, **_NO_NUMBER) + right(
    array=lambda v: np.array([v]), numpy_number=lambda v: np.float64(v), tensor=lambda v: torch.tensor(v).double()
)
"""One number."""

SHARE = (*NUMBER, *refused(negative=-0.1, above_one=1.1))
POSITIVE = (*NUMBER, *refused(negative=-0.1, zero=0.0, infinite=float("inf")))
LENGTH = (*NUMBER, *refused(negative=-0.1, infinite=float("inf")))
RADIUS = (*refused(**{k: v for k, v in _NO_NUMBER.items() if k != "two"}), *refused(negative=-0.1, too_large=8.0))

COUNT = refused(
    zero=0, negative=-1, fraction=2.5, **{k: v for k, v in _NO_NUMBER.items() if k != "nothing"}, truth_value=True
) + right(numpy_number=lambda v: np.int64(v))
"""One whole number from 1 on."""

BOUNDS = refused(
    reversed=(1, 0), equal=(0.5, 0.5), one=(0,), three=(0, 0.5, 1), nan=(0, float("nan")), texts=("0", "1"), number=1
)
CHOICE = refused(unknown="nope", number=7)
GENERATOR = refused(seed=0, text="x")
INDEX = refused(negative=-1, beyond=999, fraction=0.5, text="x", mask=torch.tensor([True, False])) + right(
    numpy_number=lambda v: np.int64(v), tensor=lambda v: torch.tensor(v)
)
INDICES = refused(negative=[-1], beyond=[999], fractions=[0.5], text="x", mask=torch.tensor([True, False])) + right(
    array=lambda v: np.array(v), tensor=lambda v: torch.tensor(v), numbers=lambda v: iter(v)
)

MODULE = refused(nothing=None, text="x", array=np.eye(2), a_class=nn.ReLU)


class _Returns(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x.flatten(1).mean(1, keepdim=True))


MODEL = (
    *refused(nothing=None, text="x", number=1),
    *refused(
        one_output=value_of(_Returns(lambda f: f)),
        no_tensor=value_of(_Returns(lambda f: "x")),
        one_row=value_of(_Returns(lambda f: torch.cat([f, -f], 1)[:1])),
        nan=value_of(_Returns(lambda f: torch.cat([f, f * torch.nan], 1))),
        whole_numbers=value_of(_Returns(lambda f: torch.cat([f, -f], 1).long())),
        other_inputs=value_of(nn.Linear(5, 2)),
    ),
)
"""Models from images to logits."""
