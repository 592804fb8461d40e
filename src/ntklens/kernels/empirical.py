"""The tangent kernel of a finite network at its current weights."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.layerwise import layer_tangents
from ntklens.kernels.observe import Plan, observe
from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.tangents import Tangent, Tangents, contract, jacobians

TensorOrNone = TypeVar("TensorOrNone", Tensor, Tensor | None)


class EmpiricalKernel:
    """Θ(x, x')_ab = <∂f_a(x)/∂θ, ∂f_b(x')/∂θ> of a network as it is now (Jacot et al. 2018, eq. 4).

    Parameters and buffers are copied: training the network afterwards does not change the kernel. Only parameters that
    require a gradient count.

    Args:
        module: the network, in eval mode where it has dropout or batch norm.
        outputs: "trace" (mean over outputs), "full" (n1, n2, O, O), or "pseudo" (gradient of the sum of the outputs
            over sqrt(O); Mohamadi et al. 2023).
        parametrisation: scale the Jacobian blocks of a network in torch's own parameterisation, weights by
            w_std²/fan_in and biases by b_std² in the kernel; the affine parameters of normalisation layers then count as
            frozen, as in `ntk_parametrize`.
        memory_limit: bytes that the tangents of two blocks of inputs may take.
        layerwise: take dense and convolutional layers by their inputs and what comes back to their outputs, without
            forming Jacobians (Novak et al. 2022); False is the plain and slow way, to the same result.

    Raises:
        InputError: a layer is in training mode, or nothing in the network moves.
        UnsupportedLayer: a parametrisation is given and a layer has no rule in it.
    """

    def __init__(
        self,
        module: nn.Module,
        outputs: str = "trace",
        parametrisation: Parametrisation | None = None,
        *,
        memory_limit: int = 1 << 30,
        layerwise: bool = True,
    ) -> None:
        if outputs not in ("trace", "full", "pseudo"):
            raise InputError(f'outputs must be "trace", "full" or "pseudo"; "{outputs}" came.')
        check_mode(module)
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
        self._cast: dict[tuple[torch.dtype, torch.device], nn.Module] = {}
        self._plans: dict[tuple[torch.dtype, torch.device, torch.Size], Plan] = {}

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The matrix (n1, n2), or (n1, n2, O, O) for full outputs; of x1 with itself, exactly symmetric, without x2."""
        a, b = self._checked(x1, x2)
        with torch.inference_mode(False), torch.no_grad():
            return self._symmetric(a) if x2 is None else torch.cat([self._row(part, b) for part in self._blocks(a)])

    def gradient(self, x1: Tensor, x2: Tensor, weights: Float[Tensor, "n1 n2"]) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), in the shape of x1, keeping no graph; not for full outputs."""
        if self.outputs == "full":
            raise InputError('the gradient is of a kernel with one value a pair; use outputs="trace" or "pseudo".')
        if weights.shape != (len(x1), len(x2)):
            raise InputError(f"weights of shape ({len(x1)}, {len(x2)}) were expected; {tuple(weights.shape)} came.")
        a, b = self._checked(x1, x2)
        with torch.inference_mode(False):
            w = weights.detach().to(a).clone()
            rows = torch.split(w, self._size(a))
            return torch.cat([self._pulled(p, b, r) for p, r in zip(self._blocks(a), rows, strict=True)])

    def __repr__(self) -> str:
        return f"EmpiricalKernel({type(self._network).__name__}, outputs={self.outputs!r})"

    def _checked(self, x1: Tensor, x2: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both inputs without a graph, in the dtype and on the device of the first."""
        if not x1.is_floating_point() or len(x1) == 0:
            raise InputError(f"one or more inputs in floating point were expected; {_told(x1)} came.")
        if x2 is not None and x1.shape[1:] != x2.shape[1:]:
            raise InputError(f"inputs of one shape were expected; {_told(x1)} and {_told(x2)} came.")
        with torch.inference_mode(False):
            a = x1.clone() if x1.is_inference() else x1.detach()
            b = a if x2 is None else (x2.clone() if x2.is_inference() else x2.detach()).to(a)
            return a, b

    def _row(self, x1: Tensor, x2: Tensor) -> Tensor:
        a = self._tangents(x1)
        return torch.cat([self._contract(a, self._tangents(part)) for part in self._blocks(x2)], 1)

    def _symmetric(self, x: Tensor) -> Tensor:
        """The upper triangle of blocks, mirrored."""
        blocks = self._blocks(x)
        rows: list[list[Tensor]] = [[x] * len(blocks) for _ in blocks]
        for i, part in enumerate(blocks):
            a = self._tangents(part)
            for j in range(i, len(blocks)):
                tile = self._contract(a, a if i == j else self._tangents(blocks[j]))
                rows[i][j], rows[j][i] = tile, _transposed(tile)
        k = torch.cat([torch.cat(row, 1) for row in rows])
        return (k + _transposed(k)) / 2

    def _pulled(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """The gradient for one block: first in its tangents, over all of x2, then once through the network."""
        x = x1.clone().requires_grad_()
        with torch.enable_grad():
            tangents = self._tangents(x)
        loose = {name: Tangent(_leaf(t.outer), _leaf(t.inner)) for name, t in tangents.items()}
        ends, starts = _tensors(tangents), _tensors(loose)
        pulls = [torch.zeros_like(t) for t in starts]
        for part, w in zip(self._blocks(x2), torch.split(weights, self._size(x2), 1), strict=True):
            with torch.no_grad():
                fixed = self._tangents(part)
            with torch.enable_grad():
                value = (w * self._contract(loose, fixed)).sum()
            for pull, g in zip(pulls, torch.autograd.grad(value, starts), strict=True):
                pull += g
        moving = [(end, pull) for end, pull in zip(ends, pulls, strict=True) if end.requires_grad]
        if not moving:
            return torch.zeros_like(x1)
        out, inward = zip(*moving, strict=True)
        return torch.autograd.grad(out, x, inward, materialize_grads=True)[0]

    def _tangents(self, x: Tensor) -> Tangents:
        plan, network, pseudo = self._plan(x), _twin(self._at(x)), self.outputs == "pseudo"
        blocks = layer_tangents(network, plan, x, pseudo=pseudo) if plan.layers else {}
        return blocks | (jacobians(network, plan.rest, x, pseudo=pseudo) if plan.rest else {})

    def _contract(self, a: Tangents, b: Tangents) -> Tensor:
        return contract(a, b, full=self.outputs == "full")

    def _blocks(self, x: Tensor) -> list[Tensor]:
        return list(torch.split(x, self._size(x)))

    def _size(self, x: Tensor) -> int:
        """Inputs a block, so that the tangents of two blocks keep to the memory."""
        return max(1, self.memory_limit // (2 * self._plan(x).entries * x.element_size()))

    def _plan(self, x: Tensor) -> Plan:
        key = x.dtype, x.device, x.shape[1:]
        if key not in self._plans:
            with torch.no_grad():
                one, pseudo = x[:1].detach(), self.outputs == "pseudo"
                self._plans[key] = observe(
                    _twin(self._at(x)), self._scales, one, pseudo=pseudo, layerwise=self.layerwise
                )
        return self._plans[key]

    def _at(self, x: Tensor) -> nn.Module:
        """The network in the dtype and on the device of x; the copy in its own precision stays as it is."""
        key = x.dtype, x.device
        if key not in self._cast:
            self._cast[key] = copy.deepcopy(self._network).to(x)
        return self._cast[key]


def _twin(network: nn.Module) -> nn.Module:
    """A network of its own on the same tensors, so that several threads can hook into it at once."""
    shared = {id(t): t for t in chain(network.parameters(), network.buffers())}
    return copy.deepcopy(network, shared)


def _leaf(t: TensorOrNone) -> TensorOrNone:
    return None if t is None else t.detach().requires_grad_()


def _tensors(tangents: Tangents) -> list[Tensor]:
    return [t for tangent in tangents.values() for t in tangent if t is not None]


def _transposed(k: Tensor) -> Tensor:
    """Swap the two inputs, and with full outputs their outputs too."""
    return k.transpose(0, 1) if k.ndim == 2 else k.permute(1, 0, 3, 2)


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
    parametrisation: Parametrisation | None = None,
    *,
    memory_limit: int = 1 << 30,
    layerwise: bool = True,
) -> EmpiricalKernel:
    """The tangent kernel of a network at its current weights; see `EmpiricalKernel`.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> empirical_kernel(net)(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        tensor([[1., 1.],
                [1., 5.]])
    """
    return EmpiricalKernel(module, outputs, parametrisation, memory_limit=memory_limit, layerwise=layerwise)
