"""The first-order expansion f + J δ of a network along a change δ of its parameters, and the gradients of it.

The value J δ comes from a forward-mode pass. Torch's rules of forward mode are not all right, and the derivatives of these
rules less so: that of layer_norm, for one, takes the saved mean and deviation for constants, so that the gradient of J δ in
the inputs loses a term (torch 2.13). Hence

- values are compared with plain autograd, once for each shape of a batch, and computed one by one where they differ;
- gradients never pass through forward mode. With w the cotangent of the outputs and g(w) = Jᵀ w, the gradient in δ is g(w),
  and that in the inputs is the gradient of <f, w> + <g(w), δ>: plain gradients, and gradients of gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.errors import InputError
from ntklens.kernels.empirical.batched_operations import BATCHED, operations
from ntklens.kernels.empirical.copies import differentiable_copy
from ntklens.kernels.empirical.jacobians import jacobians_one_by_one
from ntklens.kernels.empirical.projections import attention_with_forward_mode
from ntklens.kernels.empirical.recording import reentrant_checkpoint
from ntklens.kernels.empirical.snapshot import network_errors
from ntklens.modules import sharing_copy

Values = Mapping[str, Tensor]
"""Parameters, or changes of them, by name."""

_NORMS = frozenset(("NativeBatchNorm", "NativeLayerNorm"))
"""Operations whose second derivative torch computes from a mean and a deviation that it takes for constants."""


def forward_mode(network: nn.Module, start: Values, change: Values, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return f (n, O) at the parameters `start` and J δ (n, O), by one pass in forward mode."""
    copied = sharing_copy(network)

    def outputs(values: dict[str, Tensor]) -> Tensor:
        result: Tensor = functional_call(copied, values, (x.clone(),))
        return result

    with attention_with_forward_mode():
        f, slope = jvp(outputs, (dict(start),), (dict(change),))  # type: ignore[misc]
    return f, slope


def one_by_one(network: nn.Module, start: Values, change: Values, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return f and J δ as `forward_mode` does, by one backward pass for each input and output."""
    copied, _ = differentiable_copy(network, start)
    with torch.no_grad():
        f: Tensor = copied(x.clone())
    slopes = []
    for one in x.detach():
        blocks = jacobians_one_by_one(network, start, one[None], lambda outputs: outputs.flatten(1))
        terms = [(block[:, 0] * change[name]).reshape(len(block), -1).sum(1) for name, block in blocks.items()]
        slopes.append(sum(terms[1:], start=terms[0]))
    return f, torch.stack(slopes).view_as(f)


def forward_mode_is_right(network: nn.Module, start: Values, x: Tensor) -> bool:
    """Return whether forward mode agrees with plain autograd on a batch, along a random change of the parameters.

    With random weights v, Σ_io v_io (J δ)_io is the product of δ with the gradient of Σ_io v_io f_io.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t)

    change = {name: drawn(p) for name, p in start.items()}
    try:
        f, slope = forward_mode(network, start, change, x.detach())
    except Exception:  # torch raises errors of many types; whether the network itself is at fault shows below
        return False
    copied, leaves = differentiable_copy(network, start)
    with torch.enable_grad():
        plain: Tensor = copied((x.detach().requires_grad_() if x.is_floating_point() else x).clone())
    if "CheckpointFunction" in operations(plain):
        raise reentrant_checkpoint()
    v = drawn(plain)
    expected = v.new_zeros(())
    if plain.requires_grad:
        gradients = torch.autograd.grad(plain, list(leaves.values()), v, materialize_grads=True)
        expected = sum(((g * change[name]).sum() for name, g in zip(leaves, gradients, strict=True)), start=expected)
    tolerance = torch.finfo(f.dtype).eps ** 0.5
    same_values = torch.allclose(f, plain.detach(), rtol=tolerance, atol=tolerance * float(plain.detach().abs().max()))
    return same_values and bool(((v * slope).sum() - expected).abs() <= tolerance * (v * slope).norm())


class Expansion(torch.autograd.Function):
    """f + J δ, or J δ alone, as a differentiable function of the inputs and of the parameters start + δ."""

    @staticmethod
    def forward(
        ctx: Any, network: nn.Module, names: tuple[str, ...], centred: bool, way: Any, x: Tensor, *tensors: Tensor
    ) -> Tensor:
        """Compute the values.

        Args:
            ctx: where torch keeps what the backward pass needs.
            network: the network, whose own parameters do not matter.
            names: names of the parameters.
            centred: whether to leave out f.
            way: `forward_mode` or `one_by_one`.
            x: (n, *shape).
            tensors: the parameters, and then their values at the start.
        """
        ctx.network, ctx.names, ctx.centred = network, names, centred
        ctx.save_for_backward(x, *tensors)
        start, change = _start_and_change(names, tensors)
        f, slope = way(network, start, change, x.detach())
        result: Tensor = slope if centred else f + slope
        return result

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients in the inputs and in the parameters."""
        x, *tensors = ctx.saved_tensors
        names, differentiated = ctx.names, ctx.needs_input_grad
        in_inputs, higher = differentiated[4], torch.is_grad_enabled()
        start, change = _start_and_change(names, tensors)
        with network_errors(x), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            # Where the caller takes gradients of gradients, the graph goes on to its tensors, and otherwise ends here.
            x_in = x if higher and in_inputs else x.detach().requires_grad_(in_inputs)
            w_in, change = (w, change) if higher else (w.detach(), {name: d.detach() for name, d in change.items()})
            copied, leaves = differentiable_copy(ctx.network, start)
            f: Tensor = copied(x_in.clone())
            gradients = _gradient(f, list(leaves.values()), w_in, create_graph=in_inputs or higher)
            in_x = None
            if in_inputs:
                total = sum(((g * change[n]).sum() for n, g in zip(leaves, gradients, strict=True)), w.new_zeros(()))
                total = total if ctx.centred else total + (f * w_in).sum()
                in_x = _gradient(total, [x_in], None, create_graph=higher)[0]
                if higher and not operations(f) <= BATCHED - _NORMS:
                    in_x = _WithoutDerivative.apply(in_x, x)  # type: ignore[no-untyped-call]
        if not higher:
            gradients = [g.detach() for g in gradients]
        in_parameters = [g if needed else None for g, needed in zip(gradients, differentiated[5:], strict=False)]
        return None, None, None, None, in_x, *in_parameters, *(None for _ in names)


class _WithoutDerivative(torch.autograd.Function):
    """A gradient in the inputs whose own derivative is refused, since torch's third derivatives are not checked."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Tensor, Tensor]:
        raise InputError(
            "expected a first derivative of a linearised network in its inputs; got a second one, which is known to be "
            "right for networks of dense and convolutional layers and smooth activations only. Detach the inputs' gradient."
        )


def _start_and_change(names: tuple[str, ...], tensors: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters at the start and their changes, by name."""
    parameters, start = tensors[: len(names)], tensors[len(names) :]
    change = {name: p - s for name, p, s in zip(names, parameters, start, strict=True)}
    return dict(zip(names, start, strict=True)), change


def _gradient(f: Tensor, tensors: list[Any], w: Tensor | None, *, create_graph: bool) -> list[Tensor]:
    """Return the gradients of <f, w> in some tensors, zero where it does not depend on one."""
    if not f.requires_grad:
        return [torch.zeros_like(t) for t in tensors]
    return list(torch.autograd.grad(f, tensors, w, create_graph=create_graph, materialize_grads=True))
