"""Users' models as functions from images to logits, which leave everything of the user's as it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.modules.copying import check_materialised
from ntklens.modules.held import Held
from ntklens.modules.outputs import single_output

_BATCH_STATISTICS = (nn.modules.batchnorm._BatchNorm,)
_DRAWN = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


class Guarded(nn.Module):
    """A model as a function of single images: it gets a copy of its input, and its output is one tensor.

    The first time that it gets several images, it is also asked for the first of them beside others, three images in
    all, and refused if the logits differ.

    Args:
        model: images to logits.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.is_checked = False
        self.has_answered = False

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Raises:
            InputError: the model does not take the images, returns no single tensor or no row per image, builds layers
                in its forward, or the logits of an image depend on the rest of the batch.
        """
        if self.has_answered and (self.is_checked or len(x) < 2):
            return self._answer(x)
        held = Held(self.model) if isinstance(self.model, nn.Module) and not isinstance(self.model, Guarded) else None
        parameters = _number_of_parameters(self.model)
        outputs = self._answer(x)
        self.has_answered = True
        if _number_of_parameters(self.model) != parameters:
            raise InputError(
                "expected a model with all of its layers; got one that builds layers in its forward, so that each of its "
                "first calls draws other weights. Run the model once on a batch of images first."
            )
        if not self.is_checked and len(x) > 1:
            self.is_checked = True
            if depends_on_the_batch(self.model, x.detach(), outputs.detach()):
                raise InputError(
                    "expected a model whose logits of an image do not depend on the other images; got logits that change "
                    "with the rest of the batch. Call model.eval(), compute on each image by itself, or show the images "
                    "one at a time with batch_size=1."
                )
            if held is not None:
                is_overwritten = held.is_overwritten()
                held.put_back()
                if is_overwritten:  # the graph of the outputs may need what the further calls have overwritten
                    outputs = self._answer(x)
        return outputs

    def _answer(self, x: Tensor) -> Tensor:
        """Return the model's outputs; what Python and torch raise becomes a sentence, and errors of its own pass."""
        try:
            outputs = single_output(self.model(x.clone()))
        except Exception as error:
            if type(error).__module__ != "builtins" or isinstance(error, MemoryError):
                raise
            raise InputError(
                f"expected a model that takes images such as {x.dtype} of shape {tuple(x.shape)} on {x.device}; got "
                f"{type(error).__name__}: {first_line(error).rstrip('.')}."
            ) from error
        if outputs.ndim == 0:
            raise InputError("expected a model that returns a row of logits per image; got a single number.")
        return outputs


@contextmanager
def guarded(
    model: Callable[..., Any],
    *tensors: Tensor,
    generator: torch.Generator | None = None,
    refuse_training: bool = True,
) -> Iterator[tuple[Any, ...]]:
    """Guard a model for as long as a public function uses it; afterwards it is as it was.

    Modes, buffers, attributes, hooks and torch's global random state are put back. Gradients can be taken inside, whatever
    the caller has switched off. A model that is guarded already, by the function that calls, is passed on.

    Args:
        model: images to logits.
        tensors: images and classes; those made in inference mode are copied, since they can have no gradient.
        generator: what the function draws from; where that is torch's global generator, its state goes on.
        refuse_training: False takes a model in training mode without a word, for those who say it otherwise.

    Yields:
        The guarded model, and the tensors.

    Raises:
        InputError: no function, a layer that uses the statistics of the batch in training mode, or a lazy layer that has
            no shape.
    """
    if not callable(model) or isinstance(model, type):
        raise InputError(f"expected the model as a module or a function from images to logits; got {model!r}.")
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        usable = [t.clone() if t.is_inference() else t for t in tensors]
        if not isinstance(model, Guarded):
            # A kernel machine knows that its outputs for an input do not depend on others, and each check costs it a call.
            is_checked = getattr(model, "treats_inputs_alone", False) is True
            if isinstance(model, nn.Module):
                check_materialised(model)
                is_checked |= _check_mode(model, refuse=refuse_training) and not refuse_training
                stack.enter_context(_unchanged(model))
            if generator is not torch.default_generator:
                stack.enter_context(torch.random.fork_rng({t.device for t in tensors if t.is_cuda}))
            model = Guarded(model)
            model.is_checked = is_checked
        yield model, *usable


def layers_in_training(model: Callable[..., Any]) -> list[str]:
    """Return the names of the layers in training mode whose outputs are then drawn, or depend on the batch."""
    model = model.model if isinstance(model, Guarded) else model
    parts = model.named_modules() if isinstance(model, nn.Module) else []
    return [name for name, part in parts if part.training and isinstance(part, _BATCH_STATISTICS + _DRAWN)]


def depends_on_the_batch(model: Callable[..., Any], x: Tensor, outputs: Tensor) -> bool:
    """Return whether the output of the first input changes when others stand beside it.

    What a model draws is no dependence on the batch, so a model that gives two answers to one question is not accused.

    Args:
        model: inputs to outputs.
        x: (n, *shape).
        outputs: the model's outputs for x.
    """
    if outputs.ndim == 0 or len(outputs) != len(x) or not bool(outputs[0].isfinite().all()):
        return False  # what is wrong with these is said elsewhere
    # A model may take one size of batches or one range of values alone; then it gets companions of that size and range.
    for batch in (among_others(x[:1], 3, beyond=True), among_others(x[:1], len(x), beyond=False)):
        try:
            with torch.no_grad():
                answer, repeated = (single_output(model(batch.clone())).detach() for _ in range(2))
        except Exception:  # a user's model may raise anything
            continue
        return bool(_equal(answer, repeated) and not _equal(answer[-1], outputs[0], outputs))
    return False


def among_others(x: Tensor, n: int, *, beyond: bool) -> Tensor:
    """Return a batch of n inputs: random and large ones, and then the given one.

    Args:
        x: one input, (1, *shape).
        n: size of the batch.
        beyond: whether the large ones are larger than the input's own largest value.
    """
    if n < 2:
        return x
    if not x.is_floating_point():
        return torch.cat([x.flatten().flip(0).view_as(x), torch.zeros_like(x).expand(n - 2, *x.shape[1:]), x])
    size = 2 * x.abs().max().clamp_min(1) if beyond else x.max()
    draw = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    return torch.cat([draw * size, size.expand(n - 2, *x.shape[1:]), x])


def _equal(a: Tensor, b: Tensor, scale: Tensor | None = None) -> bool:
    """Return whether two outputs are equal up to rounding, which is measured by the outputs in `scale` (default: a).

    The logits of one image can be near zero where those of others are not, and a library rounds by the size of the batch.
    """
    if a.shape != b.shape:
        return False
    rounding = torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0
    sizes = a if scale is None else scale
    size = float(sizes.nan_to_num(0, 0, 0).abs().max()) if sizes.numel() else 0.0
    return torch.allclose(a, b, rtol=max(1e-3, 30 * rounding), atol=max(1e-4, 10 * rounding) * size, equal_nan=True)


def _check_mode(model: nn.Module, *, refuse: bool) -> bool:
    """Return whether a layer is in training mode that is another function then; refuse or warn."""
    names = layers_in_training(model)
    for name in names if refuse else []:
        layer = model.get_submodule(name)
        if isinstance(layer, _BATCH_STATISTICS):
            raise InputError(
                f"expected a model in eval mode; got `{name}` ({type(layer).__name__}) in training mode, in which the "
                "logits of an image depend on the other images. Call model.eval() first, and model.train() afterwards."
            )
    if names and refuse:
        warnings.warn(
            f"the model is in training mode: `{names[0]}` ({type(model.get_submodule(names[0])).__name__}) draws at each "
            "call, so that the model is randomised. Call model.eval() first, unless this is meant.",
            stacklevel=5,
        )
    return bool(names)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Put what the model holds back at the end."""
    held = Held(model)
    try:
        yield
    finally:
        held.put_back()


def _number_of_parameters(model: Callable[..., Any]) -> int:
    return sum(1 for _ in model.parameters()) if isinstance(model, nn.Module) else 0
