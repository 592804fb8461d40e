"""The tangent kernel of a finite network at its current weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.errors import InputError
from ntklens.kernels.empirical.layerwise import Pass
from ntklens.kernels.empirical.observe import Plan, observe
from ntklens.kernels.empirical.projections import projected
from ntklens.kernels.empirical.schedule import schedule
from ntklens.kernels.empirical.tangents import Tangents, contract, jacobians
from ntklens.kernels.empirical.weights import ThroughWeights
from ntklens.kernels.parametrisation import Parametrisation

ROOM = 1 << 23
"""Numbers that a step of a contraction takes at most, so that its memory is used again and not asked for anew."""


class EmpiricalKernel:
    """Θ(x, x')_ab = <∂f_a(x)/∂θ, ∂f_b(x')/∂θ> of a network as it is now (Jacot et al. 2018, eq. 4).

    Parameters and buffers are copied: training the network afterwards does not change the kernel. Only parameters that
    require a gradient count. Dense and convolutional layers, embeddings, and the gains and shifts of normalisations are
    taken without forming Jacobians, in the cheapest order of summation (Novak et al. 2022); so are layers that are called
    several times, and weights that several layers of a kind share. Anything else is taken by plain Jacobians: `plan`
    says which parameters those are.

    With `projections`, Jacobians are replaced by their products with k directions of random signs, k forward-mode passes
    and n O k numbers however many parameters there are: an unbiased estimate (Achlioptas 2003; Park et al. 2023, section
    3). The variance of Θ_ab(x, x') is at most (Θ_aa(x, x) Θ_bb(x', x') + Θ_ab(x, x')²) / k, that of the trace
    Σ_ab (Θ_ab(x, x) Θ_ab(x', x') + Θ_ab(x, x') Θ_ba(x, x')) / (k O²); standard errors are the square roots.

    Args:
        module: the network, in eval mode where it has dropout or batch norm.
        outputs: "trace" (mean over outputs), "full" (n1, n2, O, O), or "pseudo" (gradient of the sum of the outputs
            over sqrt(O); Mohamadi et al. 2023).
        parametrisation: None takes the parameters as they are. A `Parametrisation`, or "ntk" for the one with the default
            standard deviations, scales the blocks of a network in torch's own parametrisation: in the kernel, weights by
            w_std²/fan_in and biases by b_std². With it, and with "standard", which scales nothing, the affine parameters
            of normalisation layers count as frozen, as in `ntk_parametrize`.
        memory_limit: bytes that tangents and what is made of them may take, beside the result.
        layerwise: False takes every parameter by plain Jacobians, the slow way to the same result.
        projections: number k of random directions; None for the exact kernel.
        generator: draws the directions, once; by default one that starts at seed 0. The result does not depend on batches.

    Raises:
        InputError: a layer is in training mode, nothing in the network moves, or there are fewer than one projections.
        UnsupportedLayer: a parametrisation is given and a layer has no rule in it.
    """

    def __init__(
        self,
        module: nn.Module,
        outputs: str = "trace",
        parametrisation: Parametrisation | str | None = None,
        *,
        memory_limit: int = 1 << 30,
        layerwise: bool = True,
        projections: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if outputs not in ("trace", "full", "pseudo"):
            raise InputError(f'outputs must be "trace", "full" or "pseudo"; "{outputs}" came.')
        if projections is not None and projections < 1:
            raise InputError(f"one or more projections were expected; {projections} came.")
        check_mode(module)
        if parametrisation is not None:
            parametrisation = Parametrisation.of_module(module, parametrisation=parametrisation)
        moving = [name for name, p in module.named_parameters() if p.requires_grad]
        scales = dict.fromkeys(moving, 1.0) if parametrisation is None else parametrisation.scales(module)
        self._scales = {name: scales[name] for name in moving if name in scales}
        if not self._scales:
            raise InputError("the network has no parameter that requires a gradient, so its tangent kernel is zero.")
        self._network = copy.deepcopy(module).requires_grad_(False)
        self.outputs = outputs
        self.parametrisation = parametrisation
        self.memory_limit = memory_limit
        self.layerwise = layerwise
        self.projections = projections
        self._seeds = None if projections is None else _seeds(projections, generator)
        self._cast: dict[tuple[torch.dtype, torch.device], nn.Module] = {}
        self._plans: dict[tuple[torch.dtype, torch.device, torch.Size], Plan] = {}

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The matrix (n1, n2), or (n1, n2, O, O) for full outputs; of x1 with itself, exactly symmetric, without x2.

        Inputs may be integers (tokens) where the network takes them; the kernel then has the network's precision.

        Raises:
            InputError: inputs of two shapes, none, or of a dtype that the network does not take; outputs that are not
                (n, O), or depend on chance or on the rest of the batch.
        """
        return self._matrices(x1, x2, apart=False)[""]

    def per_layer(self, x1: Tensor, x2: Tensor | None = None) -> dict[str, Tensor]:
        """The kernel of each layer's parameters alone, whose sum is the kernel, by the names that `plan` gives.

        Raises:
            InputError: as when the kernel is called, and with projections, which mix the layers.
        """
        if self._seeds is not None:
            raise InputError("random projections mix the layers; leave out projections= for their kernels.")
        return self._matrices(x1, x2, apart=True)

    def plan(self, x: Tensor) -> dict[str, str]:
        """How each layer or parameter is taken on inputs of the shape of x: "Conv2d, structured" or "Jacobian".

        A weight that several modules share, or that moves apart from its bias, goes by its own name.
        """
        a, _ = self._checked(x, None)
        with torch.inference_mode(False):
            plan = self._plan(a)
        kinds = {name: f"{layer.kind.__name__}, structured" for name, layer in plan.layers.items()}
        return kinds | dict.fromkeys(plan.rest, "Jacobian")

    def gradient(self, x1: Tensor, x2: Tensor, weights: Float[Tensor, "n1 n2"]) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), in the shape of x1, keeping no graph; not for full outputs."""
        if self.outputs == "full":
            raise InputError('the gradient is of a kernel with one value a pair; use outputs="trace" or "pseudo".')
        if not x1.is_floating_point():
            raise InputError(f"a gradient is in inputs of floating point; {_told(x1)} came.")
        if weights.shape != (len(x1), len(x2)):
            raise InputError(f"weights of shape ({len(x1)}, {len(x2)}) were expected; {tuple(weights.shape)} came.")
        a, b = self._checked(x1, x2)
        with torch.inference_mode(False):
            w = weights.detach().to(a).clone()
            plan = self._plan(a)
            if self._seeds is not None:  # its gradient takes Jacobians
                plan = replace(plan, each=3 * sum(p.numel() for p in self._network.parameters()))
            size = schedule(plan, 4 * (len(a) + len(b)), self._numbers(a), chunks=False).block
            rows = zip(torch.split(a, size), torch.split(w, size), strict=True)
            with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
                return torch.cat([self._pulled(part, b, row, size) for part, row in rows])

    def expansion(self, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> ThroughWeights | None:
        """The function Σ_j Θ(x, z_j) A_j by directions in weight space; its cost does not grow with the number of z.

        Args:
            z: (m, *shape) in float64.
            coefficients: (m, k) in float64.
            arithmetic: of what it evaluates.

        Returns:
            The function; None where the kernel is full, has embeddings, or its O k directions exceed the memory limit.
        """
        if self.outputs == "full" or not z.is_floating_point():
            return None
        z, _ = self._checked(z, None)
        with torch.inference_mode(False), torch.no_grad():
            plan = self._plan(z)
            rows = self._rows(plan)
            moving = [p.numel() for name, p in self._network.named_parameters() if name in self._scales]
            many = rows * (sum(moving) if self._seeds is None else len(self._seeds))
            embeds = any(issubclass(layer.kind, nn.Embedding) for layer in plan.layers.values())
            if embeds or 2 * many * coefficients.shape[1] > self._numbers(z):
                return None
            size = max(1, self._numbers(z) // (4 * plan.entries(rows) + 3 * many))
            sums: dict[str, list[Tensor]] = {}
            for part, share in zip(torch.split(z, size), torch.split(coefficients, size), strict=True):
                for name, block in self._tangents(part, slice(None)).items():
                    new = block.combined(share)
                    sums[name] = [a + b for a, b in zip(sums[name], new, strict=True)] if name in sums else new
            directions = {name: [t.to(arithmetic) for t in found] for name, found in sums.items()}
        scale = 1 / plan.outputs if self.outputs == "trace" else 1.0
        return ThroughWeights(lambda x: self._tangents(x, slice(None)), directions, scale, arithmetic, size)

    def __repr__(self) -> str:
        extra = "" if self.projections is None else f", projections={self.projections}"
        return f"EmpiricalKernel({type(self._network).__name__}, outputs={self.outputs!r}{extra})"

    def _checked(self, x1: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both inputs without a graph, in the dtype and on the device of the first."""
        if x1.is_complex() or len(x1) == 0:
            raise InputError(f"one or more inputs in floating point were expected; {_told(x1)} came.")
        if x2 is not None and (x1.shape[1:] != x2.shape[1:] or x1.is_floating_point() != x2.is_floating_point()):
            raise InputError(f"inputs of one shape were expected; {_told(x1)} and {_told(x2)} came.")
        with torch.inference_mode(False):
            a = x1.clone() if x1.is_inference() else x1.detach()
            b = a if x2 is None else (x2.clone() if x2.is_inference() else x2.detach()).to(a)
            return a, b

    def _matrices(self, x1: Tensor, x2: Tensor | None, *, apart: bool) -> dict[str, Tensor]:
        """Kernels by layer, or their sum under the name ""."""
        a, b = self._checked(x1, x2)
        with torch.inference_mode(False), torch.no_grad():
            plan, full = self._plan(a), self.outputs == "full"
            steps = schedule(
                plan, len(a) + (0 if x2 is None else len(b)), self._numbers(a), chunks=self.outputs == "trace"
            )
            names = [*plan.layers, *plan.rest] if apart else [""]
            o = plan.outputs if full else 1
            shape = (o, len(a), o, len(b)) if full else (len(a), len(b))
            totals = {name: torch.zeros(shape, dtype=plan.dtype, device=a.device) for name in names}
            passes: dict[str, Pass] = {}
            for start in range(0, self._rows(plan), steps.rows):
                rows = slice(start, start + steps.rows)
                self._add(totals, a, None if x2 is None else b, rows, steps.block, passes)
            same = x2 is None
            return {name: self._finished(k, plan.outputs, steps.block, same=same) for name, k in totals.items()}

    def _add(
        self, totals: dict[str, Tensor], x1: Tensor, x2: Tensor | None, rows: slice, size: int, passes: dict[str, Pass]
    ) -> None:
        """Add the terms of some outputs, block by block; of the upper triangle of blocks where there is no x2."""
        full, room, whole = self.outputs == "full", self._room(x1), "" in totals
        first = list(zip(_parts(len(x1), size), torch.split(x1, size), strict=True))
        second = first if x2 is None else list(zip(_parts(len(x2), size), torch.split(x2, size), strict=True))
        for i, (here, part) in enumerate(first):
            a = self._tangents(part, rows, passes, "first" if len(first) == 1 else "")
            for j in range(i if x2 is None else 0, len(second)):
                there, other = second[j]
                b = (
                    a
                    if x2 is None and i == j
                    else self._tangents(other, rows, passes, "second" if len(second) == 1 else "")
                )
                for name, tangent in a.items():
                    total = totals["" if whole else name]
                    contract(
                        tangent, b[name], total[:, here, :, there] if full else total[here, there], full=full, room=room
                    )

    def _finished(self, k: Tensor, outputs: int, size: int, *, same: bool) -> Tensor:
        """In the promised shape and scale, exactly symmetric where it should be."""
        if same:
            turned = (2, 3, 0, 1) if k.ndim == 4 else (1, 0)
            for part in _parts(len(k) if k.ndim == 2 else k.shape[1], size):
                later = slice(part.stop, None)
                if k.ndim == 4:
                    k[:, later, :, part] = k[:, part, :, later].permute(turned)
                else:
                    k[later, part] = k[part, later].permute(turned)
            k = (k + k.permute(turned)) / 2
        if k.ndim == 4:
            return k.permute(1, 3, 0, 2).contiguous()
        return k / outputs if self.outputs == "trace" else k

    def _pulled(self, x1: Tensor, x2: Tensor, weights: Tensor, size: int) -> Tensor:
        """The gradient for one block: first in its tangents, over all of x2, then once through the network."""
        x, every = x1.clone().requires_grad_(), slice(None)
        with torch.enable_grad():
            tangents = self._tangents(x, every)
        scale = 1 / self._plan(x1).outputs if self.outputs == "trace" else 1.0
        loose = {name: t.replaced(iter([_leaf(s) for s in t.tensors()])) for name, t in tangents.items()}
        pulls = {name: [torch.zeros_like(t) for t in block.tensors()] for name, block in loose.items()}
        for part, w in zip(torch.split(x2, size), torch.split(scale * weights, size, 1), strict=True):
            with torch.no_grad():
                fixed = self._tangents(part, every)
            for name, block in loose.items():
                with torch.enable_grad():
                    pieces = block.pieces(fixed[name], full=False, room=self._room(x1))
                    for rows, columns, value in pieces:
                        inside = (w[rows, columns] * value).sum()
                        grads = torch.autograd.grad(inside, block.tensors(), retain_graph=True, allow_unused=True)
                        for pull, g in zip(pulls[name], grads, strict=True):
                            if g is not None:
                                pull += g
        ends = [t for tangent in tangents.values() for t in tangent.tensors()]
        inward = [pull for block in pulls.values() for pull in block]
        moving = [(end, pull) for end, pull in zip(ends, inward, strict=True) if end.requires_grad]
        if not moving:
            return torch.zeros_like(x1)
        out, back = zip(*moving, strict=True)
        return torch.autograd.grad(out, x, back, materialize_grads=True)[0]

    def _tangents(self, x: Tensor, rows: slice, passes: dict[str, Pass] | None = None, key: str = "") -> Tangents:
        """Tangents of some outputs; a forward pass that is known under its key is not made again."""
        plan, network, pseudo = self._plan(x), _twin(self._at(x)), self.outputs == "pseudo"

        def output(f: Tensor) -> Tensor:
            return f.sum(1, keepdim=True) / f.shape[1] ** 0.5 if pseudo else f[:, rows]

        if self._seeds is not None:
            return projected(network, self._scales, x, output, self._seeds)
        blocks: Tangents = {}
        if plan.layers:
            known = passes.get(key) if passes else None
            forward = known if known is not None else Pass(network, plan, x)
            if passes is not None and key:
                passes[key] = forward
            blocks = forward.tangents(output)
        return blocks | (jacobians(network, plan.rest, x, output) if plan.rest else {})

    def _rows(self, plan: Plan) -> int:
        return 1 if self.outputs == "pseudo" else plan.outputs

    def _numbers(self, x: Tensor) -> int:
        """How many numbers fit into the memory."""
        return max(1, self.memory_limit // self._plan(x).dtype.itemsize)

    def _room(self, x: Tensor) -> int:
        """How many of them a step of a contraction may take."""
        return min(self._numbers(x) // 4, ROOM)

    def _plan(self, x: Tensor) -> Plan:
        key = x.dtype, x.device, x.shape[1:]
        if key not in self._plans:
            one = x[:1].detach()
            with torch.no_grad():
                try:
                    plan = observe(_twin(self._at(x)), self._scales, one, layerwise=self.layerwise)
                except (RuntimeError, TypeError) as error:
                    if x.is_floating_point():
                        raise
                    raise InputError(
                        f"one or more inputs in floating point were expected; {_told(x)} came, which the network does "
                        f"not take: {error}"
                    ) from error
            if self._seeds is not None:
                plan = replace(plan, layers={}, rest={}, fixed=2 * plan.fixed, each=len(self._seeds))
            self._plans[key] = plan
        return self._plans[key]

    def _at(self, x: Tensor) -> nn.Module:
        """The network in the dtype and on the device of x; the copy in its own precision stays as it is."""
        own = next(p.dtype for p in self._network.parameters() if p.is_floating_point())
        key = x.dtype if x.is_floating_point() else own, x.device
        if key not in self._cast:
            self._cast[key] = copy.deepcopy(self._network).to(dtype=key[0], device=key[1])
        return self._cast[key]


def _twin(network: nn.Module) -> nn.Module:
    """A network of its own on the same tensors, so that several threads can hook into it at once."""
    shared = {id(t): t for t in chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared)


def _leaf(t: Tensor) -> Tensor:
    return t.detach().requires_grad_()


def _parts(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _seeds(count: int, generator: torch.Generator | None) -> list[int]:
    drawn = generator if generator is not None else torch.Generator().manual_seed(0)
    return [int(seed) for seed in torch.randint(2**62, (count,), generator=drawn, device=drawn.device)]


def _told(x: Tensor) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}"


def check_mode(module: nn.Module) -> None:
    """Refuse a network that is not a function of single inputs while it is in training mode.

    Raises:
        InputError: a dropout or batch norm layer is in training mode; the message names it.
    """
    for name, layer in module.named_modules():
        mixes = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        if layer.training and isinstance(layer, mixes):
            raise InputError(
                f"`{name}` ({type(layer).__name__}) is in training mode, in which a kernel of single inputs is not "
                "defined; call model.eval() first."
            )


def empirical_kernel(
    module: nn.Module,
    outputs: str = "trace",
    parametrisation: Parametrisation | str | None = None,
    *,
    memory_limit: int = 1 << 30,
    layerwise: bool = True,
    projections: int | None = None,
    generator: torch.Generator | None = None,
) -> EmpiricalKernel:
    """The tangent kernel of a network at its current weights; see `EmpiricalKernel`.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> empirical_kernel(net)(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        tensor([[1., 1.],
                [1., 5.]])
    """
    return EmpiricalKernel(
        module,
        outputs,
        parametrisation,
        memory_limit=memory_limit,
        layerwise=layerwise,
        projections=projections,
        generator=generator,
    )
