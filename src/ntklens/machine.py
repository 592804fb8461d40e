"""The kernel machine: a fitted kernel predictor that is a torch module and a scikit-learn-style classifier."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens import machine_file
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Expansion
from ntklens.linalg import Factorisation, Filter, Ridge, Spectrum, trained_covariance
from ntklens.memory import check_room
from ntklens.targets import class_logits, regression_targets

_MATRICES = {True: 3.3, False: 4.5}
"""Matrices (n, n) that a fit holds at its peak, measured: by Cholesky for a ridge, by an eigendecomposition otherwise."""


class _Outputs(torch.autograd.Function):
    """Θ(x, X) α as one node of autograd's graph, whose backward is the kernel's own gradient.

    Without it, autograd would record every operation of the kernel's recursion, for every pair of inputs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, machine: KernelMachine) -> Tensor:
        f, ctx.slope = machine.expansion.vjp(x.detach())
        return f.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        slope: Tensor = ctx.slope(grads[0])
        if torch.is_grad_enabled():
            # The caller asked for create_graph=True and may differentiate this gradient again.
            slope = _NoSecondDerivative.apply(slope.detach().requires_grad_())  # type: ignore[no-untyped-call]
        return slope, None


class _NoSecondDerivative(torch.autograd.Function):
    """The identity, with an error as its derivative: without it, second derivatives would silently be zero."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise NotImplementedError(
            "a kernel machine can be differentiated once; for second derivatives take differences of its gradient."
        )


class KernelMachine(nn.Module):
    """f(x) = Θ(x, X) V g(Λ) Vᵀ Y: the mean prediction of infinitely wide trained networks (docs/formulas.md).

    The machine is an `nn.Module`: it takes inputs in [0, 1], returns one logit per class and is differentiable, so every
    attack on a torch model runs on it. For two classes the paper's scalar f (targets -1 and +1) is returned as the logits
    (-f/2, f/2), whose cross-entropy is the binary cross-entropy of f; more classes are fitted to one-hot targets.

    Args:
        kernel: any `Kernel`.
        filter: g. `Ridge(0.0)`, the default, is training for infinite time; `GradientFlow` and `GradientDescent` stop
            early, `Band` takes chosen features.
        arithmetic: dtype in which Θ(x, X) and its gradient are computed once the machine is fitted. In float64, the
            default, outputs and gradients are right to the precision of x. In float32 attacks run two to four times as
            fast, and the coefficients magnify the rounding: on 4,000 images of Fashion-MNIST at ridge 0, gradients are
            right to 4e-6 and outputs to 1e-4.

    Attributes:
        train_inputs: X, (n, *shape); None before `fit`.
        targets: Y, (n, O) in float64.
        coefficients: α = V g(Λ) Vᵀ Y, (n, O) in float64.

    Example:
        >>> from ntklens.kernels.elementary import LinearKernel
        >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> machine = KernelMachine(LinearKernel()).fit(x, torch.tensor([0, 1]))
        >>> machine.predict(torch.tensor([[0.2, 0.9], [0.9, 0.2]]))
        tensor([0, 1])
    """

    train_inputs: Tensor
    targets: Tensor
    coefficients: Tensor

    def __init__(
        self, kernel: Kernel, filter: Filter | None = None, *, arithmetic: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        if not isinstance(kernel, Kernel):
            raise InputError(
                "expected a kernel, such as analytic_kernel(module), empirical_kernel(module) or a subclass of nl.Kernel; "
                f"got {type(kernel).__name__}."
            )
        if arithmetic not in (torch.float32, torch.float64):
            raise InputError(f"expected arithmetic torch.float64 or torch.float32; got {arithmetic}.")
        self.kernel = kernel
        self.arithmetic = arithmetic
        self.filter: Filter = Ridge(0.0) if filter is None else filter
        self._factorisation: Factorisation | None = None
        # The eigenpairs that the filter acts on, as an argument of `refilter`; None for the default.
        self._spectrum: Spectrum | None = None
        # Functions of the training inputs alone, computed when first needed; machines of other filters share them.
        self._shared: dict[str, Tensor] = {}
        # The coefficients that `expansion` was computed for, and the expansion.
        self._expanded: tuple[Tensor, Expansion] | None = None
        for name in ("train_inputs", "targets", "coefficients"):
            self.register_buffer(name, None)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `load` has run."""
        return self.coefficients is not None

    def fit(self, x: Float[Tensor, "n *shape"], y: Int[Tensor, " n"] | Float[Tensor, "n O"]) -> KernelMachine:
        """Compute Θ(X, X), factor it and solve for the coefficients.

        Args:
            x: training inputs, pixels in [0, 1].
            y: class indices, or float targets (n, O), which are used unchanged.

        Raises:
            InputError: the labels do not fit the inputs, or Θ(X, X) does not fit into memory.
            NumericalFailure: the filter inverts Θ, which is singular to rounding.
        """
        _check_floating(x)
        if not len(x):
            raise InputError("expected at least one training input; got none.")
        self.train_inputs = x.detach().clone()
        self.targets = regression_targets(y, len(x))
        self._shared, self._spectrum = {}, None
        self._factorisation = Factorisation(self._matrix())
        self.coefficients = self._factorisation.apply(self.filter, self.targets)
        return self

    def refilter(self, filter: Filter, spectrum: Spectrum | None = None) -> KernelMachine:
        """Return a machine with another filter on the same training data; this machine does not change.

        Both share the kernel matrix, its Cholesky factor and its spectrum.

        Args:
            filter: the other filter.
            spectrum: eigenpairs of Θ(X, X) that the filter acts on, from `factorisation.spectrum` or
                `factorisation.leading(count)`. By default `Ridge` is solved by Cholesky, and the other filters take the
                whole spectrum.
        """
        twin = copy.copy(self)
        # A shallow copy shares the dictionary of buffers. Without a copy of it, the assignment of the twin's coefficients
        # would change this machine.
        twin._buffers = dict(self._buffers)
        twin.filter, twin._spectrum = filter, spectrum
        twin.coefficients = self.factorisation.apply(filter, self.targets, spectrum)
        return twin

    @property
    def factorisation(self) -> Factorisation:
        """Θ(X, X) with its Cholesky factor and its spectrum; a loaded machine computes it when it is first needed."""
        self._check_fitted()
        if self._factorisation is None:
            self._factorisation = Factorisation(self._matrix())
        return self._factorisation

    @property
    def expansion(self) -> Expansion:
        """The function Θ(x, X) α and its gradient, in this machine's arithmetic; kept until α changes."""
        self._check_fitted()
        if self._expanded is None or self._expanded[0] is not self.coefficients:
            self._expanded = self.coefficients, self.expand(self.coefficients)
        return self._expanded[1]

    def expand(self, coefficients: Float[Tensor, "n k"], arithmetic: torch.dtype | None = None) -> Expansion:
        """Return the function Θ(x, X) A and its gradient, for any coefficients A.

        Args:
            coefficients: A, (n, k).
            arithmetic: dtype in which Θ(x, X) is computed; this machine's by default.
        """
        self._check_fitted()
        inside = self.arithmetic if arithmetic is None else arithmetic
        return self.kernel.expansion(self.double_inputs, coefficients.to(torch.float64), inside)

    def outputs(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m O"]:
        """Return the raw predictions Θ(x, X) α, one column per target; they can be differentiated once in x."""
        self._check_fitted()
        _check_floating(x)
        if x.shape[1:] != self.train_inputs.shape[1:]:
            shape = ", ".join(map(str, self.train_inputs.shape[1:]))
            raise InputError(f"expected inputs of shape (n, {shape}), as in training; got {tuple(x.shape)}.")
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Outputs.apply(x, self)  # type: ignore[no-untyped-call]
            return result
        return self.expansion(x.detach()).to(x.dtype)

    def forward(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m classes"]:
        """Return one logit per class: the raw outputs, or (-f/2, f/2) for one scalar output f."""
        return class_logits(self.outputs(x))

    @overload
    def predict(self, x: Tensor) -> Tensor: ...
    @overload
    def predict(self, x: Tensor, *, return_std: bool, return_cov: Literal[False] = False) -> tuple[Tensor, Tensor]: ...
    @overload
    def predict(self, x: Tensor, *, return_cov: bool) -> tuple[Tensor, Tensor]: ...

    @torch.no_grad()
    def predict(
        self, x: Tensor, *, return_std: bool = False, return_cov: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the predicted classes; or the outputs' mean and spread over infinitely wide networks.

        The networks start from draws of the kernel's prior (for an analytic kernel, its NNGP) and are trained as the
        filter says. Their spread is that of the prior at time 0 and shrinks near the training inputs (Lee et al. 2019,
        eq. 16). A machine that is fitted on a prior, such as `KernelMachine(kernel.prior, Ridge(noise))`, is the posterior
        of a Gaussian process whose targets have Gaussian noise of that variance.

        Args:
            x: (m, *shape), inputs.
            return_std: return `outputs(x)` and their standard deviation, both (m, O).
            return_cov: return `outputs(x)`, (m, O), and the covariance between the inputs, (m, m). It is the same for every
                output, and outputs are independent.

        Raises:
            InputError: the kernel has no prior, or both the standard deviation and the covariance are asked for.
        """
        if return_std and return_cov:
            raise InputError(
                "expected return_std or return_cov; got both. The variances are the diagonal of the covariance."
            )
        if not return_std and not return_cov:
            logits: Tensor = self(x)
            return logits.argmax(1)
        mean = self.outputs(x)
        if return_cov:
            return mean, self._spread(x, diagonal=False)
        return mean, self._spread(x, diagonal=True).sqrt()[:, None].expand_as(mean)

    @torch.no_grad()
    def predict_proba(self, x: Tensor) -> Float[Tensor, "m classes"]:
        """Return the softmax of the logits."""
        return torch.softmax(self(x), 1)

    def score(self, x: Tensor, y: Int[Tensor, " m"]) -> float:
        """Return the accuracy, from 0 to 1."""
        return float((self.predict(x) == y).double().mean())

    @property
    def double_inputs(self) -> Tensor:
        """The training inputs in float64.

        Where the ridge is small, the coefficients are large and of both signs, so that f(x) is a small sum of large terms:
        kernel values that are rounded to float32 would leave it few digits.
        """
        inputs = self._shared.get("inputs")
        if inputs is None or inputs.device != self.train_inputs.device:
            inputs = self._shared["inputs"] = self.train_inputs.to(torch.float64)
        return inputs

    def save(self, path: str | Path) -> None:
        """Write the training data and the coefficients to a safetensors file.

        The filter and the arithmetic are saved with them. The kernel is code and is not saved: `load` takes it again.
        """
        self._check_fitted()
        tensors = {name: tensor for name, tensor in self._buffers.items() if tensor is not None}
        machine_file.write(Path(path), tensors, self.kernel, self.filter, self.arithmetic)

    @classmethod
    def load(cls, path: str | Path, kernel: Kernel, filter: Filter | None = None) -> KernelMachine:
        """Return a machine that was saved.

        Args:
            path: a file written by `save`.
            kernel: the kernel that the machine was fitted with.
            filter: the filter that the machine was fitted with; needed only for one of a type of your own.

        Raises:
            InputError: the file does not exist or is of another kind, or the machine was saved with another kernel or
                filter.
        """
        saved, arithmetic = machine_file.settings(Path(path))
        machine = cls(kernel, saved if filter is None else filter, arithmetic=arithmetic)
        for name, tensor in machine_file.read(Path(path), kernel, machine.filter).items():
            setattr(machine, name, tensor)
        return machine

    def extra_repr(self) -> str:
        """Return the kernel, the filter and the number of training inputs."""
        n = f", n={len(self.train_inputs)}" if self.is_fitted else ", not fitted"
        return f"{self.kernel!r}, {self.filter!r}{n}"

    def _matrix(self) -> Tensor:
        """Compute Θ(X, X), (n, n) in float64, if there is room for it and for its factors."""
        if self.train_inputs.device.type == "cpu":
            check_room(len(self.train_inputs), _MATRICES[isinstance(self.filter, Ridge)])
        try:
            return self.kernel(self.double_inputs)
        except RuntimeError as error:
            if "allocate memory" not in str(error) and "out of memory" not in str(error):
                raise
            n = len(self.train_inputs)
            raise InputError(
                f"the kernel matrix of {n:,} training inputs takes {8e-9 * n * n:.1f} GB, more memory than is available. "
                "Fit on fewer inputs."
            ) from error

    def _spread(self, x: Tensor, *, diagonal: bool) -> Tensor:
        """Compute the covariance of the trained networks at x, (m, m), or its diagonal, (m,), in the dtype of x.

        A network that starts at f_0 ends at f_0(x) + A (Y - f_0(X)) with A = Θ(x, X) V g(Λ) Vᵀ. That is a linear function
        of f_0, whose covariance is the prior K; `trained_covariance` has the formula.
        """
        prior, z, train = self.kernel.prior, x.to(torch.float64), self.double_inputs
        if "prior" not in self._shared:
            self._shared["prior"] = prior(train)
        # Where the kernel is the prior, Θ = K, a machine with a ridge is not a trained network but a Gaussian process that
        # is conditioned on noisy targets: Y has the covariance K(X, X) + ρ I.
        bayesian = id(prior) == id(self.kernel)
        noise = self.filter.rho if bayesian and isinstance(self.filter, Ridge) else 0.0
        # A = Θ(x, X) V g(Λ) Vᵀ, (m, n). The filter acts on columns, and V g(Λ) Vᵀ is symmetric: Aᵀ = V g(Λ) Vᵀ Θ(X, x).
        readout = self.factorisation.apply(self.filter, self.kernel(z, train).T, self._spectrum).T
        before = prior.diagonal(z) if diagonal else prior(z)
        return trained_covariance(before, prior(z, train), self._shared["prior"], readout, noise).to(x.dtype)

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise InputError("the machine has no training data yet. Call fit(x, y) or KernelMachine.load first.")


def _check_floating(x: Tensor) -> None:
    if not x.is_floating_point():
        raise InputError(f"expected floating-point pixels in [0, 1]; got {x.dtype}. Divide by 255 first.")
