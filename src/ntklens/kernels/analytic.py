"""The infinite-width kernels of a torch module: the NTK, and the NNGP as a kernel of its own."""

from __future__ import annotations

from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from ntklens.arguments import as_count, as_device, as_images, check_generator, check_module, in_words
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel, checked_both, checked_pair, checked_rows, checked_weights
from ntklens.kernels.engines.base import Engine, Kind
from ntklens.kernels.engines.select import EngineName, engine_for, plan_of
from ntklens.kernels.expansion import Pullback
from ntklens.kernels.monte_carlo import Draws, monte_carlo
from ntklens.kernels.nngp import NNGPKernel
from ntklens.kernels.parametrisation import Parametrisation, Values
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.tracing.probe import probe
from ntklens.kernels.tracing.trace import trace
from ntklens.modules import unwrapped
from ntklens.progress import Progress, Report
from ntklens.texts import shortened


class AnalyticKernel(Kernel):
    """Exact NTK and NNGP of a network at infinite width.

    The module is read, never altered, and its weights do not matter: only its operations and the parametrisation do. It is
    traced once for each shape of inputs, and an engine runs the traced graph. Covariances are computed in float64, whatever
    the dtype of the inputs, so that near pairs keep their distance; the result has the dtype and device of x1.

    Args:
        module: any module whose forward uses the operations of `ntklens.kernels.tracing.layers`.
        parametrisation: standard deviations of weights and biases; see `analytic_kernel`.
        memory_limit: bytes of working memory beside the result; the work is cut into blocks of pairs accordingly.
        engine: "auto" takes the fastest engine that runs the network on the inputs' device; "reference" always takes the
            plain torch recursion.
    """

    def __init__(
        self,
        module: nn.Module,
        parametrisation: Parametrisation,
        *,
        memory_limit: int = 1 << 30,
        engine: EngineName = "auto",
    ) -> None:
        check_module(module)
        if not isinstance(parametrisation, Parametrisation):
            raise InputError(f"expected parametrisation as a Parametrisation; got {parametrisation!r}.")
        as_count(memory_limit, "memory_limit")
        if engine not in ("auto", "reference"):
            raise InputError(f'expected engine="auto" or "reference"; got {engine!r}.')
        self._module: nn.Module | None = module
        self.name = type(module).__name__
        self.parametrisation = parametrisation
        self.memory_limit = memory_limit
        self.engine = engine
        self._graphs: dict[tuple[int, ...], Graph] = {}
        self._engines: dict[tuple[Any, ...], Engine[Any]] = {}
        if (traced := probe(module, parametrisation)) is not None:
            shape, graph = traced
            self._graphs[shape] = graph

    @classmethod
    def of_graph(
        cls, name: str, graph: Graph, shape: tuple[int, ...], parametrisation: Parametrisation
    ) -> AnalyticKernel:
        """Return the kernel of a network that has been traced, without the network; `name` is that of its class.

        It takes inputs of this shape alone.
        """
        kernel = cls(nn.Identity(), parametrisation)
        kernel._module, kernel.name, kernel._graphs = None, name, {shape: graph}
        return kernel

    def graph(self, shape: tuple[int, ...]) -> Graph:
        """Return the traced operations for inputs of this shape (without the batch axis).

        It prints as a table of at most 100 columns, with the cost of each operation and of the whole; `plan` says which
        engine runs it.

        Raises:
            InputError: the network does not take this shape, or is not there to be traced for another shape.
            UnsupportedLayer: an operation has no infinite-width rule.
        """
        if not isinstance(shape, (tuple, list)) or not shape:
            raise InputError(f"expected shape as that of one input, such as (1, 28, 28); got {in_words(shape)}.")
        shape = tuple(as_count(size, "shape") for size in shape)
        if shape not in self._graphs:
            if self._module is None:
                known = " or ".join(f"(n, {', '.join(map(str, known))})" for known in self._graphs)
                raise InputError(
                    f"expected inputs of shape {known}, for which this kernel was saved; got (n, "
                    f"{', '.join(map(str, shape))}). Make the kernel from the network for other shapes."
                )
            self._graphs[shape] = trace(self._module, shape, self.parametrisation)
        return self._graphs[shape]

    def plan(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> str:
        """Return which engine computes this kernel, and why, in a sentence.

        Args:
            shape: shape of one input, without the batch axis.
            device: where the inputs will be.

        Raises:
            InputError: no shape or no device.
            UnsupportedLayer: the module has a part without an infinite-width rule.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 8), nn.Hardswish(), nn.Linear(8, 1))
            >>> analytic_kernel(net).plan((4,)).partition(", values")[0]
            'The fused engine for processors runs this network'
        """
        return plan_of(self.graph(shape), self.engine, as_device(device))

    @overload
    def __call__(
        self, x1: Tensor, x2: Tensor | None = None, kind: Kind = "ntk", *, progress: Report | None = None
    ) -> Tensor: ...
    @overload
    def __call__(
        self, x1: Tensor, x2: Tensor | None, kind: tuple[Kind, ...], *, progress: Report | None = None
    ) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        *,
        kind: tuple[Kind, ...],
        progress: Report | None = None,
    ) -> tuple[Tensor, ...]: ...

    def __call__(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        kind: str | tuple[str, ...] = "ntk",
        *,
        progress: Report | None = None,
    ) -> Tensor | tuple[Tensor, ...]:
        """Compute the kernel matrix between two batches, or of one with itself.

        Args:
            x1: (n1, C, H, W), (n1, C, L) or (n1, d), float32 or float64.
            x2: (n2, ...), of the same shape per input. Without it x1 is taken with itself: half of the work is done, and
                the matrix is exactly symmetric.
            kind: "ntk", "nngp", or both as a tuple, which costs one pass.
            progress: called with the share of pairs that are done.

        Returns:
            Tensor (n1, n2) in the dtype and on the device of x1; a tuple of them for a tuple of kinds. It is differentiable
            when an input requires a gradient; `gradient` is the way that keeps no autograd graph.

        Raises:
            InputError: inputs that do not fit.
            UnsupportedLayer: the module has a part without an infinite-width rule.
        """
        x1, x2 = checked_pair(x1, x2)
        kinds = _kinds(kind)
        if not x1.numel() or (x2 is not None and not x2.numel()):
            empty = self._empty(x1, x2)
            return empty if isinstance(kind, str) else tuple(empty for _ in kinds)
        tracked = torch.is_grad_enabled() and (x1.requires_grad or (x2 is not None and x2.requires_grad))
        engine = self._engine(x1, x2, differentiable=tracked)
        matrices = engine.matrices(x1, x2, kinds, Progress(progress))
        results = tuple(matrices[k] for k in kinds)
        return results[0] if isinstance(kind, str) else results

    def diagonal(self, x: Tensor, kind: str = "ntk") -> Tensor:
        """Compute K(x_i, x_i) for every input: (n,), in time and memory linear in n."""
        kinds = _kinds(kind)
        x = as_images(x)
        if not x.numel():
            return self._empty(x, None).diagonal()
        return self._engine(x, None).diagonal(x, kinds)[kinds[0]]

    @property
    def prior(self) -> NNGPKernel:
        """The NNGP: the covariance of the infinitely wide network's outputs before training."""
        return NNGPKernel(self)

    def gradient(
        self, x1: Tensor, x2: Tensor, weights: Tensor, kind: str = "ntk", *, progress: Report | None = None
    ) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), keeping no autograd graph.

        At a coincident pair, where the kernels of piecewise linear activations have a kink, the kink's directional part
        counts as zero, so the gradient is finite everywhere.

        Args:
            x1: (n1, ...) inputs to differentiate at.
            x2: (n2, ...) inputs held fixed.
            weights: (n1, n2).
            kind: "ntk" or "nngp".
            progress: called with the share of pairs that are done.

        Returns:
            Tensor in shape, dtype and device of x1.
        """
        single_kind = _one_kind(kind)
        x1, z = checked_both(x1, x2)
        weights = checked_weights(weights, x1, z)
        if not x1.numel() or not z.numel():
            self._empty(x1, z)
            return torch.zeros_like(x1)
        engine = self._engine(x1, z)
        return engine.gradient(x1.detach(), z.detach(), weights, single_kind, Progress(progress))

    def between(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the NTK (n1, n2) between inputs that are known to fit, without a graph."""
        x1, x2 = x1.detach(), x2.detach()
        return self._engine(x1, x2).matrices(x1, x2, ("ntk",), Progress())["ntk"]

    def gram(self, x: Tensor, progress: Report | None = None) -> Tensor:
        """Compute the NTK of x with itself, (n, n)."""
        return self(x, progress=progress)

    def _empty(self, x1: Tensor, x2: Tensor | None) -> Tensor:
        """Return the matrix of no inputs with others, once the shape of an input is known to fit the network."""
        self._engine(x1, x2)
        return x1.new_zeros(len(x1), len(x1 if x2 is None else x2))

    def vjp(self, x1: Tensor, x2: Tensor, kind: str = "ntk") -> tuple[Tensor, Pullback]:
        """Compute the kernel between two batches, and its gradient for weights that are known only once the matrix is.

        Networks without positions keep the inner products of the two batches, where `memory_limit` allows: an attack then
        takes two matrix products per step in place of three.

        Args:
            x1: (n1, ...) inputs to differentiate at.
            x2: (n2, ...) inputs held fixed.
            kind: "ntk" or "nngp".

        Returns:
            The matrix (n1, n2), and a function from weights (n1, n2) to the gradient as `gradient` gives it; with `rows`,
            indices of x1, the weights and the gradient are of these rows alone.
        """
        return self._vjp(*checked_both(x1, x2), _one_kind(kind))

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for the NTK of tensors that are known to fit."""
        return self._vjp(x1, x2, "ntk")

    def _vjp(self, x1: Tensor, x2: Tensor, single_kind: Kind) -> tuple[Tensor, Pullback]:
        """Compute a matrix and its pullback for tensors that are known to fit."""
        x1, x2 = x1.detach(), x2.detach()
        engine = self._engine(x1, x2)
        is_empty = not (len(x1) and len(x2))
        products = None if is_empty else engine.products(x1, x2)
        matrix = self._empty(x1, x2)
        if not is_empty:
            matrix = engine.matrices(x1, x2, (single_kind,), Progress(), products)[single_kind]

        def pullback(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            rows = None if rows is None else checked_rows(rows, x1)
            x = x1 if rows is None else x1[rows]
            _check_shape(weights, x, x2)
            if is_empty or not len(x):
                return torch.zeros_like(x)
            shared = products if rows is None or products is None else products.of(rows)
            return engine.gradient(x, x2, weights.detach(), single_kind, Progress(), shared)

        return matrix, pullback

    def _engine(self, x1: Tensor, x2: Tensor | None, *, differentiable: bool = False) -> Engine[Any]:
        """Return the engine for these inputs, once they are known to fit; each engine is kept with what it compiled."""
        for name, x in (("x1", x1), ("x2", x2)):
            if x is None:
                continue
            if x.dtype not in (torch.float32, torch.float64) or x.ndim not in (2, 3, 4):
                raise InputError(
                    f"expected {name} as float32 or float64 of shape (n, d), (n, C, L) or (n, C, H, W); "
                    f"got {x.dtype} of shape {tuple(x.shape)}."
                )
        if x2 is not None and x2.shape[1:] != x1.shape[1:]:
            raise InputError(
                f"expected x1 and x2 of one shape per input; got {tuple(x1.shape[1:])} and {tuple(x2.shape[1:])}."
            )
        shape = tuple(x1.shape[1:])
        key = (shape, x1.device.type, differentiable, self.engine, self.memory_limit)
        if key not in self._engines:
            self._engines[key] = engine_for(
                self.graph(shape), self.engine, x1.device, self.memory_limit, differentiable=differentiable
            )
        return self._engines[key]

    def monte_carlo(
        self,
        x1: Tensor,
        x2: Tensor | None = None,
        *,
        width: int = 512,
        draws: int = 20,
        generator: torch.Generator | None = None,
        kind: str = "ntk",
    ) -> Draws:
        """Empirical kernels of freshly drawn finite networks, which this kernel is the wide limit of.

        Args:
            x1: (n1, ...) inputs.
            x2: (n2, ...) inputs; x1 by default.
            width: hidden units or channels a layer.
            draws: number of networks.
            generator: source of the draws; a fresh one with seed 0 by default.
            kind: "ntk", the kernel that is drawn.

        Returns:
            `Draws`, with the kernels, their mean and its standard error.
        """
        if not isinstance(kind, str) or kind != "ntk":
            raise InputError(
                f'expected kind="ntk" for kernels of drawn networks; got {kind!r}. The NNGP is the covariance of '
                "the outputs of networks that ntk_parametrize(module) draws."
            )
        x1, x2 = checked_pair(x1, x2)
        if self._module is None:
            raise InputError(
                "expected a kernel of a network to draw networks of; got one from a file, without its network."
            )
        if not x1.numel() or (x2 is not None and not x2.numel()):
            raise InputError("expected at least one input to draw kernels of; got none.")
        check_generator(generator, optional=True)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        width, draws = as_count(width, "width"), as_count(draws, "draws", least=2)
        graph = self.graph(tuple(x1.shape[1:]))
        options = {"width": width, "draws": draws}
        return monte_carlo(self._module, graph, self.parametrisation, x1, x2, generator=generator, **options)

    def identity(self) -> str:
        """Return the class of the module and the parametrisation, by which a file tells this kernel from others."""
        return f"AnalyticKernel({self.name}, {self.parametrisation})"

    def __repr__(self) -> str:
        given = self.parametrisation
        stds = [
            f"{name}={value:.4g}" if isinstance(value, (int, float)) else f"{name} of {len(value)} layers"
            for name, value in (("w_std", given.w_std), ("b_std", given.b_std))
        ]
        return f"AnalyticKernel({shortened(self.name, 24)}, {', '.join(stds)}, {given.kind})"


def _kinds(kind: str | tuple[str, ...]) -> tuple[Kind, ...]:
    kinds = (kind,) if not isinstance(kind, (tuple, list)) else tuple(kind)
    if not kinds or any(k not in ("ntk", "nngp") for k in kinds):
        raise InputError(f'expected kind="ntk", "nngp" or a tuple of them; got {kind!r}.')
    return cast("tuple[Kind, ...]", kinds)


def _one_kind(kind: Any) -> Kind:
    if isinstance(kind, (tuple, list)):
        raise InputError(f'expected kind="ntk" or "nngp" for a gradient; got {kind!r}.')
    return _kinds(kind)[0]


def _check_shape(weights: Tensor, x1: Tensor, x2: Tensor) -> None:
    if weights.shape != (len(x1), len(x2)):
        raise InputError(f"expected weights of shape ({len(x1)}, {len(x2)}), one per pair; got {tuple(weights.shape)}.")


def analytic_kernel(
    module: nn.Module,
    w_std: Values = 2**0.5,
    b_std: Values = 0.1,
    *,
    parametrisation: Parametrisation | str = "ntk",
    memory_limit: int = 1 << 30,
    engine: EngineName = "auto",
) -> AnalyticKernel:
    """Return the infinite-width NTK and NNGP of a network.

    Args:
        module: a plain torch module; only its operations matter, not its weights.
        w_std: standard deviation of the weights before the 1/sqrt(fan_in): one value, a dict from
            the layers' dotted names, or a sequence in the order of the module's layers.
        b_std: standard deviation of the biases, likewise; layers without a bias have none.
        parametrisation: "ntk", or "standard" for the tangent kernel in torch's own parametrisation at the module's own
            width, in the mean over its draws; or a `Parametrisation`, which has its own standard deviations.
        memory_limit: bytes of working memory beside the result.
        engine: "auto", or "reference" for the plain torch recursion alone.

    Raises:
        UnsupportedLayer: an operation has no infinite-width rule; the message says which, where and what to do.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> kernel = analytic_kernel(net, w_std=2**0.5, b_std=0.0)
        >>> kernel(torch.eye(4).reshape(4, 1, 2, 2)[:2])
        tensor([[1.0000, 0.1592],
                [0.1592, 1.0000]])
    """
    check_module(module)
    module = unwrapped(module)
    chosen = Parametrisation.of_module(module, w_std, b_std, parametrisation)
    return AnalyticKernel(module, chosen, memory_limit=memory_limit, engine=engine)
