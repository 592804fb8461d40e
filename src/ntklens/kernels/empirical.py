"""The tangent kernel of a finite network at its current weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from ntklens.errors import InputError
from ntklens.kernels.parametrisation import LAYERS, Parametrisation

Outputs = Literal["trace", "full", "pseudo"]


class EmpiricalKernel:
    """Θ(x, x')_ab = <∂f_a(x)/∂θ, ∂f_b(x')/∂θ>, by plain Jacobians (FORMULAS, section 5; Novak et al. 2022).

    Parameters and buffers are copied: training the network afterwards does not change the kernel. Only parameters that
    require a gradient count.

    Args:
        module: the network, in eval mode where it has dropout or batch norm.
        outputs: "trace" (mean over outputs), "full" (n1, n2, O, O), or "pseudo" (gradient of the sum of the outputs
            over sqrt(O); Mohamadi et al. 2023).
        parametrisation: scale the Jacobian blocks of a network in torch's own parameterisation, weights by
            w_std²/fan_in and biases by b_std² in the kernel.
        memory_limit: bytes that the Jacobians of one block of inputs may take.
    """

    def __init__(
        self,
        module: nn.Module,
        outputs: str = "trace",
        parametrisation: Parametrisation | None = None,
        *,
        memory_limit: int = 1 << 30,
    ) -> None:
        if outputs not in ("trace", "full", "pseudo"):
            raise InputError(f'outputs must be "trace", "full" or "pseudo"; "{outputs}" came.')
        _check_mode(module)
        self._network = copy.deepcopy(module)
        self.outputs = outputs
        self.parametrisation = parametrisation
        self.memory_limit = memory_limit
        scales = {} if parametrisation is None else _scales(self._network, parametrisation)
        self._factors = {n: scales.get(n, 1.0) for n, p in self._network.named_parameters() if p.requires_grad}
        if not self._factors:
            raise InputError("the network has no parameter that requires a gradient, so its tangent kernel is zero.")
        self._network.requires_grad_(False)

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The matrix (n1, n2), or (n1, n2, O, O) for full outputs; of x1 with itself, exactly symmetric, without x2."""
        with torch.no_grad():
            if x2 is None:
                return self._symmetric(x1)
            return torch.cat([self._row(part, x2) for part in self._blocks(x1)])

    def gradient(self, x1: Tensor, x2: Tensor, weights: Float[Tensor, "n1 n2"]) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), in the shape of x1, keeping no graph; not for full outputs."""
        if self.outputs == "full":
            raise InputError('the gradient is of a kernel with one value a pair; use outputs="trace" or "pseudo".')
        if weights.shape != (len(x1), len(x2)):
            raise InputError(f"weights of shape ({len(x1)}, {len(x2)}) were expected; {tuple(weights.shape)} came.")
        with torch.no_grad():
            pulled: dict[str, Tensor] = {}
            for part, w in zip(self._blocks(x2), self._split(weights.T, x2), strict=True):
                for name, j in self._jacobian(part).items():
                    term = torch.tensordot(w.T.to(j.dtype), j, 1)  # (n1, O, parameters)
                    pulled[name] = pulled[name] + term if name in pulled else term
        gradients = []
        start = 0
        for part in self._blocks(x1):
            with torch.enable_grad():
                x = part.detach().clone().requires_grad_()
                rows = slice(start, start + len(part))
                value = sum((j * pulled[n][rows]).sum() for n, j in self._jacobian(x).items())
                assert isinstance(value, Tensor)
                gradients.append(torch.autograd.grad(value / self._share(part), x)[0].detach())
            start += len(part)
        return torch.cat(gradients)

    def __repr__(self) -> str:
        return f"EmpiricalKernel({type(self._network).__name__}, outputs={self.outputs!r})"

    def _jacobian(self, x: Tensor) -> dict[str, Tensor]:
        """Scaled Jacobian of each parameter: (n, O, size), with O = 1 for the pseudo kernel."""
        network = self._network.to(x)
        names = dict(network.named_parameters())
        moving = {n: names[n] for n in self._factors}

        def outputs(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
            f: Tensor = functional_call(network, parameters, (one[None],))[0]
            return f.sum()[None] / f.numel() ** 0.5 if self.outputs == "pseudo" else f

        blocks = vmap(jacrev(outputs), (None, 0))(moving, x)
        return {n: self._factors[n] * j.flatten(2) for n, j in blocks.items()}

    def _contract(self, a: dict[str, Tensor], b: dict[str, Tensor]) -> Tensor:
        n1, o, _ = next(iter(a.values())).shape
        n2 = len(next(iter(b.values())))
        if self.outputs == "full":
            flat = sum((j.flatten(0, 1) @ b[n].flatten(0, 1).T for n, j in a.items()), torch.tensor(0.0))
            return flat.reshape(n1, o, n2, o).transpose(1, 2)
        return sum((j.flatten(1) @ b[n].flatten(1).T for n, j in a.items()), torch.tensor(0.0)) / o

    def _row(self, x1: Tensor, x2: Tensor) -> Tensor:
        a = self._jacobian(x1)
        return torch.cat([self._contract(a, self._jacobian(part)) for part in self._blocks(x2)], 1)

    def _symmetric(self, x: Tensor) -> Tensor:
        blocks = self._blocks(x)
        rows: list[list[Tensor]] = [[torch.empty(0)] * len(blocks) for _ in blocks]
        for i, part in enumerate(blocks):
            a = self._jacobian(part)
            for j in range(i, len(blocks)):
                tile = self._contract(a, a if i == j else self._jacobian(blocks[j]))
                rows[i][j], rows[j][i] = tile, _transposed(tile)
        k = torch.cat([torch.cat(row, 1) for row in rows])
        return (k + _transposed(k)) / 2

    def _blocks(self, x: Tensor) -> list[Tensor]:
        size = sum(p.numel() for n, p in self._network.named_parameters() if n in self._factors)
        bytes_an_input = 2 * size * x.element_size() * self._count(x)
        return list(torch.split(x, max(1, self.memory_limit // (3 * bytes_an_input))))

    def _split(self, weights: Tensor, x: Tensor) -> Iterator[Tensor]:
        start = 0
        for part in self._blocks(x):
            yield weights[start : start + len(part)]
            start += len(part)

    def _count(self, x: Tensor) -> int:
        """Number of output rows that a Jacobian has."""
        if self.outputs == "pseudo":
            return 1
        with torch.no_grad():
            f: Tensor = self._network.to(x)(x[:1])
        if f.ndim != 2:
            raise InputError(f"a network with outputs of shape (n, O) was expected; {tuple(f.shape)} came.")
        return f.shape[1]

    def _share(self, x: Tensor) -> int:
        return self._count(x) if self.outputs == "trace" else 1


def _transposed(k: Tensor) -> Tensor:
    """Swap the two inputs, and with full outputs their outputs too."""
    return k.transpose(0, 1) if k.ndim == 2 else k.permute(1, 0, 3, 2)


def _check_mode(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        mixes = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        if layer.training and isinstance(layer, mixes):
            raise InputError(
                f"`{name}` ({type(layer).__name__}) is in training mode, in which a kernel of single inputs is not "
                "defined; call model.eval() first."
            )


def _scales(module: nn.Module, parametrisation: Parametrisation) -> dict[str, float]:
    """Factor of each Jacobian block, by parameter name."""
    factors: dict[str, float] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, LAYERS):
            dot = f"{name}." if name else ""
            factors[f"{dot}weight"] = parametrisation.weight_scale(name, layer)
            factors[f"{dot}bias"] = parametrisation.bias_scale(name)
    return factors


def empirical_kernel(
    module: nn.Module,
    outputs: str = "trace",
    parametrisation: Parametrisation | None = None,
    *,
    memory_limit: int = 1 << 30,
) -> EmpiricalKernel:
    """The tangent kernel of a network at its current weights; see `EmpiricalKernel`.

    Example:
        >>> net = nn.Linear(2, 1, bias=False)
        >>> empirical_kernel(net)(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
        tensor([[1., 1.],
                [1., 5.]])
    """
    return EmpiricalKernel(module, outputs, parametrisation, memory_limit=memory_limit)
