"""A network as it was when its kernel was built, and the tangents of batches under it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ntklens.arguments import as_tensor, check_finite
from ntklens.errors import InputError, NtklensError
from ntklens.files import first_line
from ntklens.kernels.empirical.attention import with_projections
from ntklens.kernels.empirical.jacobians import failing_parameters, jacobians
from ntklens.kernels.empirical.layerwise import ForwardPass
from ntklens.kernels.empirical.observe import observe
from ntklens.kernels.empirical.plan import Plan
from ntklens.kernels.empirical.projections import projected
from ntklens.kernels.empirical.tangents import ALL, Tangents
from ntklens.modules import copied, sharing_copy

_STEP_CAPACITY = 1 << 23
"""Numbers that one step of a contraction takes at most: memory of this size is reused instead of allocated again."""


class Snapshot:
    """A copy of a network, and the tangents of batches under its weights.

    The network is cast to the dtype and the device of each batch; the copy in its own precision stays as it is. Plans are
    kept for each dtype, device and shape of inputs.

    Args:
        network: a copy of the user's network, as `copied_function` makes it, which becomes the snapshot's own.
        scales: factor of each differentiated parameter, by its name.
        outputs: "trace", "full" or "pseudo".
        memory_limit: bytes that tangents and their products may take.
        layerwise: whether tangents may be structured.
        seeds: seeds of the random directions that tangents are projected on; None for exact tangents.
    """

    def __init__(
        self,
        network: nn.Module,
        scales: Mapping[str, float],
        *,
        outputs: str,
        memory_limit: int,
        layerwise: bool,
        seeds: list[int] | None,
    ) -> None:
        network = network.requires_grad_(False)
        self.network = with_projections(network) if layerwise and seeds is None else network
        self.scales = scales
        self.outputs = outputs
        self.seeds = seeds
        self._memory_limit = memory_limit
        self._layerwise = layerwise
        self._cast: dict[tuple[torch.dtype, torch.device], nn.Module] = {}
        self._plans: dict[tuple[torch.dtype, torch.device, torch.Size], Plan] = {}

    def tangents(
        self, x: Tensor, outputs: slice = ALL, passes: dict[str, ForwardPass] | None = None, key: str = ""
    ) -> Tangents:
        """Return the tangents of a batch, (O, n, ...), with a graph to x where x requires a gradient.

        Args:
            x: (n, *shape).
            outputs: which outputs to differentiate; of no effect on the pseudo kernel, which has a single one.
            passes: forward passes of earlier calls. One under this key is used again, and a new one is added.
            key: name of the batch in `passes`; "" for none.
        """
        plan, network = self.plan(x), self._network_for(x)

        def output(f: Tensor) -> Tensor:
            return f.sum(1, keepdim=True) / f.shape[1] ** 0.5 if self.outputs == "pseudo" else f[:, outputs]

        with network_errors(x):
            if self.seeds is not None:
                return projected(network, self.scales, x, output, self.seeds)
            blocks: Tangents = {}
            if plan.layers:
                known = passes.get(key) if passes else None
                forward_pass = known if known is not None else ForwardPass(sharing_copy(network), plan, x)
                if passes is not None and key:
                    passes[key] = forward_pass
                blocks = forward_pass.tangents(output)
            rest = jacobians(network, plan.rest, x, output, one_by_one=plan.one_by_one) if plan.rest else {}
            return {**blocks, **rest}

    def differentiated_outputs(self, plan: Plan) -> int:
        """Return the number of outputs that are differentiated: 1 for the pseudo kernel, otherwise O."""
        return 1 if self.outputs == "pseudo" else plan.outputs

    def output_scale(self, plan: Plan) -> float:
        """Return what a sum over outputs is multiplied by: 1/O for a trace, otherwise 1."""
        return 1 / plan.outputs if self.outputs == "trace" else 1.0

    def capacity(self, x: Tensor) -> int:
        """Return how many numbers fit into the memory limit."""
        return max(1, self._memory_limit // self.plan(x).dtype.itemsize)

    def step_capacity(self, x: Tensor) -> int:
        """Return how many numbers one step of a contraction may take."""
        return min(self.capacity(x) // 4, _STEP_CAPACITY)

    def plan(self, x: Tensor) -> Plan:
        """Return the plan for inputs like those of x.

        Raises:
            InputError: the network does not take such inputs, or is not a function of single inputs.
        """
        key = x.dtype, x.device, x.shape[1:]
        if key not in self._plans:
            with torch.no_grad(), network_errors(x):
                network = self._network_for(x)
                plan = observe(network, self.scales, x[:1].detach(), layerwise=self._layerwise)
                used = plan.rest.keys() - plan.unused
                if used and self.seeds is None:
                    # Batched Jacobians of one image, and of as many as there are outputs where those fit the memory, show
                    # which operations torch cannot batch. Whatever the sizes are, each batch is checked once more.
                    numbers = plan.outputs * sum(p.numel() for name, p in network.named_parameters() if name in used)
                    many = (
                        plan.outputs if 3 * plan.outputs * numbers <= self._memory_limit // plan.dtype.itemsize else 1
                    )
                    batches = [x[torch.arange(n, device=x.device) % len(x)].detach() for n in sorted({1, many})]
                    plan = replace(plan, one_by_one=failing_parameters(network, used, batches))
            if self.seeds is not None:
                # Projections take one number per direction and output; forward-mode passes take twice a plain pass.
                plan = replace(plan, layers={}, rest={}, fixed=2 * plan.fixed, per_output=len(self.seeds))
            self._plans[key] = plan
        return self._plans[key]

    def _network_for(self, x: Tensor) -> nn.Module:
        """Return the network in the dtype and on the device of x; inputs of integers take it in its own precision."""
        network_dtype = next(p.dtype for p in self.network.parameters() if p.is_floating_point())
        key = x.dtype if x.is_floating_point() else network_dtype, x.device
        if key not in self._cast:
            self._cast[key] = copied(self.network).to(dtype=key[0], device=key[1])
        return self._cast[key]


def check_mode(module: nn.Module) -> None:
    """Raise an error for a network that in its training mode is not a function of single inputs.

    Raises:
        InputError: a dropout or batch norm layer is in training mode; the message names it.
    """
    depends_on_mode = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, depends_on_mode):
            raise InputError(
                f"expected a network in eval mode; got `{name}` ({type(layer).__name__}) in training mode, in which "
                "outputs depend on chance or on the rest of the batch. Call model.eval() first."
            )


def checked_inputs(x1: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both inputs without a graph, in the dtype and on the device of the first; x1 twice where x2 is None.

    Raises:
        InputError: no inputs, inputs of different shapes, with values that are not finite, or integers with floats.
    """
    x1 = as_tensor(x1, "x1")
    check_finite(x1, "x1")
    if x2 is not None:
        x2 = as_tensor(x2, "x2")
        check_finite(x2, "x2")
    if x1.is_complex() or x1.ndim == 0 or len(x1) == 0:
        raise InputError(f"expected one or more inputs in floating point; got {described(x1)}.")
    if x2 is not None and (x1.shape[1:] != x2.shape[1:] or x1.is_floating_point() != x2.is_floating_point()):
        raise InputError(f"expected inputs of one shape; got {described(x1)} and {described(x2)}.")
    # A tensor that was created in inference mode can never take part in a graph, so such inputs are copied.
    with torch.inference_mode(False):
        a = x1.clone() if x1.is_inference() else x1.detach()
        b = a if x2 is None else (x2.clone() if x2.is_inference() else x2.detach()).to(a)
        return a, b


def described(x: Tensor) -> str:
    """Return a tensor's dtype and shape in words, for error messages."""
    return f"{x.dtype} of shape {tuple(x.shape)}"


@contextmanager
def network_errors(x: Tensor) -> Iterator[None]:
    """Turn whatever error a network raises in its passes into one of ours.

    Raises:
        InputError: the network cannot be run on these inputs or be differentiated; the message gives torch's reason.
    """
    try:
        yield
    except (NtklensError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a network is any code, and raises errors of any type
        if not x.is_floating_point():
            raise InputError(
                f"expected one or more inputs in floating point; got {described(x)}, which the network does not take: "
                f"{first_line(error).rstrip('.')}."
            ) from error
        raise InputError(
            f"expected a network that runs on inputs such as {described(x)} and can be differentiated; got "
            f"{type(error).__name__}: {first_line(error).rstrip('.')}."
        ) from error
