"""The kernel machine: a fitted kernel predictor that is a torch module and a scikit-learn-style classifier."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens import machine_file
from ntklens.arguments import as_classes, as_floats, as_images, as_path, check_range, same_device
from ntklens.errors import InputError, NumericalFailure
from ntklens.estimator import Estimator
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Expansion
from ntklens.linalg import (
    Factorisation,
    Filter,
    Ridge,
    Spectrum,
    check_filter,
    equal_rows,
    factor_seconds,
    inverts,
    trained_covariance,
)  # fmt: skip
from ntklens.machine_state import TENSORS, FittedState, warn_of_copies
from ntklens.memory import check_room
from ntklens.modules import without_autocast
from ntklens.progress import FirstOfTwo, Report
from ntklens.targets import class_logits, regression_targets
from ntklens.texts import shortened

_MATRICES = {True: 3.3, False: 4.5}
"""Matrices (n, n) that a fit holds at its peak, measured: by Cholesky for a ridge, by an eigendecomposition otherwise."""

_KEPT_PRIOR = 4096
"""Training inputs up to which the prior's matrix K(X, X), (n, n), is kept for the next call."""


class _Outputs(torch.autograd.Function):
    """Θ(x, X) α as one node of autograd's graph, whose backward is the kernel's own gradient.

    Without it, autograd would record every operation of the kernel's recursion, for every pair of inputs.
    """

    @staticmethod
    @without_autocast
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


class KernelMachine(FittedState, Estimator):
    """f(x) = Θ(x, X) V g(Λ) Vᵀ Y: the mean prediction of infinitely wide trained networks (docs/formulas.md).

    The machine is an `nn.Module`: it takes inputs in [0, 1], returns one logit per class and is differentiable, so every
    attack on a torch model runs on it. Arrays and lists are taken where tensors are. For two classes the paper's scalar f
    (targets -1 and +1) is returned as the logits (-f/2, f/2), whose cross-entropy is the binary cross-entropy of f; more
    classes are fitted to one-hot targets.

    Training inputs that are equal pixel by pixel make Θ singular. Where the filter inverts it, `Ridge(0.0)` and infinite
    time, they are fitted as one input with the mean of their targets, which is the solution of least squares and least
    norm; a warning says which they are.

    The machine moves to another device by `to`, but its buffers keep their precision: coefficients that are rounded to
    half precision would leave the outputs without a digit.

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

    _PARAMETERS = ("kernel", "filter", "arithmetic")

    def __init__(
        self, kernel: Kernel, filter: Filter | None = None, *, arithmetic: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        if not isinstance(kernel, Kernel):
            raise InputError(
                "expected a kernel, such as analytic_kernel(module), empirical_kernel(module) or a subclass of nl.Kernel; "
                f"got {type(kernel).__name__}."
            )
        _check_arithmetic(arithmetic)
        filter = Ridge(0.0) if filter is None else filter
        check_filter(filter)
        self.kernel = kernel
        self.arithmetic = arithmetic
        self.filter: Filter = filter

    @without_autocast
    def fit(
        self,
        x: Float[Tensor, "n *shape"],
        y: Int[Tensor, " n"] | Float[Tensor, "n O"],
        *,
        progress: Report | None = None,
    ) -> KernelMachine:
        """Compute Θ(X, X), factor it and solve for the coefficients.

        Args:
            x: training inputs, pixels in [0, 1].
            y: class indices, or float targets (n, O), which are used unchanged.
            progress: called with the share of the time that is over, from 0 to 1: of the kernel matrix as its pairs are
                done, and then of its factor, during which the share stands still.

        Raises:
            InputError: the labels do not fit the inputs, or Θ(X, X) does not fit into memory.
            NumericalFailure: the filter inverts Θ, which is singular to rounding.
        """
        x = as_images(x)
        if not x.numel():
            raise InputError(f"expected x as at least one training input; got shape {tuple(x.shape)}.")
        targets = regression_targets(y, len(x)).to(x.device)
        # A copy is fitted and its state taken over when it is done: what fails leaves this machine as it was.
        new: KernelMachine = self._twin()
        new._hold(x.detach().clone(), targets)
        if progress is not None:
            seconds = factor_seconds(len(x), by_cholesky=isinstance(self.filter, Ridge) or inverts(self.filter))
            new._factorisation = Factorisation(new._matrix(FirstOfTwo(progress, seconds)))
        self._hold(new.train_inputs, targets, new._filtered(targets))
        self._factorisation, self._shared = new._factorisation, new._shared
        if progress is not None:
            progress(1.0)
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
        twin: KernelMachine = self._twin()
        check_filter(filter)
        if spectrum is not None and not isinstance(spectrum, Spectrum):
            raise InputError(f"expected spectrum as that of machine.factorisation; got {type(spectrum).__name__}.")
        twin.__dict__.update(filter=filter, _spectrum=spectrum, _factorisation=self.factorisation)
        twin.coefficients = twin._filtered(self.targets)
        return twin

    def _filtered(self, columns: Tensor) -> Tensor:
        """Compute V g(Λ) Vᵀ columns, with equal training inputs taken as one where g inverts Θ."""
        if "equal" not in self._shared:
            try:
                return self._factors.apply(self.filter, columns, self._spectrum)
            except NumericalFailure:
                groups = equal_rows(self.train_inputs.flatten(1))
                if self._spectrum is not None or not inverts(self.filter) or int(groups.max()) + 1 == len(groups):
                    raise
                self._shared["equal"] = groups
                warn_of_copies(groups, self.targets)
        elif self._spectrum is not None or not inverts(self.filter):
            return self._factors.apply(self.filter, columns, self._spectrum)
        return self._factors.solve_merged(self._shared["equal"], columns)

    @property
    def factorisation(self) -> Factorisation:
        """Θ(X, X) with its Cholesky factor and its spectrum; a loaded machine computes it when it is first needed."""
        self._check_fitted()
        return self._factors

    @property
    def _factors(self) -> Factorisation:
        if self._factorisation is None:
            self._factorisation = Factorisation(self._matrix())
        return self._factorisation

    @property
    def expansion(self) -> Expansion:
        """The function Θ(x, X) α and its gradient, in this machine's arithmetic; kept until α changes."""
        self._check_fitted()
        alpha = self.coefficients
        # The version tells a change in place; tensors of inference mode have none, and cannot be changed outside of it.
        key = (id(alpha), 0 if alpha.is_inference() else alpha._version, self.arithmetic)
        if self._expanded is None or self._expanded[0] != key:
            self._expanded = key, self.expand(alpha)
        return self._expanded[1]

    @without_autocast
    def expand(self, coefficients: Float[Tensor, "n k"], arithmetic: torch.dtype | None = None) -> Expansion:
        """Return the function Θ(x, X) A and its gradient, for any coefficients A.

        Args:
            coefficients: A, (n, k).
            arithmetic: dtype in which Θ(x, X) is computed; this machine's by default.
        """
        self._check_fitted()
        inside = self.arithmetic if arithmetic is None else arithmetic
        _check_arithmetic(inside)
        a = as_floats(coefficients, "coefficients")
        if a.ndim != 2 or len(a) != len(self.train_inputs):
            raise InputError(f"expected coefficients of shape ({len(self.train_inputs)}, k); got {tuple(a.shape)}.")
        return self.kernel.expansion(self.double_inputs, a.to(torch.float64), inside)

    @without_autocast
    def outputs(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m O"]:
        """Return the raw predictions Θ(x, X) α, one column per target; they can be differentiated once in x."""
        x = self.checked(x)
        if not len(x):
            return x.new_zeros(0, self.targets.shape[1])
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Outputs.apply(x, self)  # type: ignore[no-untyped-call]
            return result
        return self.expansion(x.detach()).to(x.dtype)

    @property
    def treats_inputs_alone(self) -> bool:
        """Whether an output depends on one input by construction: a kernel of this package, and nothing hooked on."""
        is_plain = type(self) is KernelMachine and not (self._forward_hooks or self._forward_pre_hooks)
        return is_plain and isinstance(self.kernel, Kernel) and type(self.kernel).__module__.startswith("ntklens.")

    def checked(self, x: Tensor) -> Tensor:
        """Return inputs as a tensor, if they are like the training inputs.

        Raises:
            InputError: inputs of another shape, dtype or device, or with values that are not finite.
        """
        self._check_fitted()
        x = as_images(x)
        same_device(x, self.train_inputs.device, "x", "the machine")
        if x.shape[1:] != self.train_inputs.shape[1:]:
            shape = ", ".join(map(str, self.train_inputs.shape[1:]))
            raise InputError(f"expected x as inputs of shape (n, {shape}), as in training; got {tuple(x.shape)}.")
        return x

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
        x = as_images(x)
        mean = self.outputs(x)
        if return_cov:
            return mean, self._spread(x, diagonal=False)
        return mean, self._spread(x, diagonal=True).sqrt()[:, None].expand_as(mean)

    @torch.no_grad()
    def predict_proba(self, x: Tensor) -> Float[Tensor, "m classes"]:
        """Return the softmax of the logits."""
        return torch.softmax(self(x), 1)

    def score(self, x: Tensor, y: Int[Tensor, " m"]) -> float:
        """Return the accuracy, from 0 to 1.

        Raises:
            InputError: inputs that do not fit, none of them, or labels that are not one class index per input.
        """
        predicted = self.predict(x)
        if not len(predicted):
            raise InputError("expected at least one input to score; got none.")
        y = as_classes(y, len(predicted), device=predicted.device)
        check_range(y, self._class_count())
        return float((predicted == y).double().mean())

    def _class_count(self) -> int:
        return max(2, self.targets.shape[1])

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

        The filter, the arithmetic and an analytic kernel are saved with them. A kernel that depends on weights or on code
        of yours is not: `load` takes it again.

        Raises:
            InputError: the machine is not fitted, or the file cannot be written.
        """
        self._check_fitted()
        path = as_path(path, "path")
        tensors = {name: getattr(self, name) for name in TENSORS}
        machine_file.write(path, tensors, self.kernel, self.filter, self.arithmetic)

    @classmethod
    def load(cls, path: str | Path, kernel: Kernel | None = None, filter: Filter | None = None) -> KernelMachine:
        """Return a machine that was saved.

        Args:
            path: a file written by `save`.
            kernel: the kernel that the machine was fitted with; needed only for an empirical kernel and for one of your
                own.
            filter: the filter that the machine was fitted with; needed only for one of a type of your own.

        Raises:
            InputError: the file does not exist or is of another kind, or the machine was saved with another kernel or
                filter.
        """
        path = as_path(path, "path")
        saved, arithmetic = machine_file.settings(path)
        kernel = machine_file.saved_kernel(path) if kernel is None else kernel
        machine = cls(kernel, saved if filter is None else filter, arithmetic=arithmetic)
        machine._hold(**machine_file.read(path, kernel, machine.filter))
        return machine

    def __repr__(self) -> str:
        kernel, filter = (
            shortened(repr(self.kernel), 48, keep_start=1.0),
            shortened(repr(self.filter), 18, keep_start=1.0),
        )
        fitted = f"fitted on {len(self.train_inputs):,}" if self.is_fitted else "not fitted"
        return f"KernelMachine({kernel}, {filter}, {fitted})"

    def extra_repr(self) -> str:
        """Return the kernel, the filter and the number of training inputs."""
        n = f", n={len(self.train_inputs)}" if self.is_fitted else ", not fitted"
        return f"{self.kernel!r}, {self.filter!r}{n}"

    def _matrix(self, progress: Report | None = None) -> Tensor:
        """Compute Θ(X, X), (n, n) in float64, if there is room for it and for its factors."""
        n = len(self.train_inputs)
        if self.train_inputs.device.type == "cpu":
            check_room(n, _MATRICES[isinstance(self.filter, Ridge)])
        try:
            theta = self.kernel.gram(self.double_inputs, progress)
        except RuntimeError as error:
            if "allocate memory" not in str(error) and "out of memory" not in str(error):
                raise
            raise InputError(
                f"the kernel matrix of {n:,} training inputs takes {8e-9 * n * n:.1f} GB, more memory than is available. "
                "Fit on fewer inputs."
            ) from error
        if theta.shape != (n, n):
            raise InputError(
                f"expected a kernel with one value per pair of inputs, ({n}, {n}); got {tuple(theta.shape)}. An empirical "
                'kernel takes outputs="trace" or "pseudo".'
            )
        if not math.isfinite(float(theta.sum())) and not bool(theta.isfinite().all()):
            i, j = (~theta.isfinite()).nonzero()[0].tolist()
            raise NumericalFailure(
                f"the kernel of the training inputs {i} and {j} is {float(theta[i, j])}, not a finite number. Are the "
                "network's weights finite?"
            )
        return theta

    def _spread(self, x: Tensor, *, diagonal: bool) -> Tensor:
        """Compute the covariance of the trained networks at x, (m, m), or its diagonal, (m,), in the dtype of x.

        A network that starts at f_0 ends at f_0(x) + A (Y - f_0(X)) with A = Θ(x, X) V g(Λ) Vᵀ. That is a linear function
        of f_0, whose covariance is the prior K; `trained_covariance` has the formula.
        """
        prior, z, train = self.kernel.prior, x.to(torch.float64), self.double_inputs
        # Where the kernel is the prior, Θ = K, a machine with a ridge is not a trained network but a Gaussian process that
        # is conditioned on noisy targets: Y has the covariance K(X, X) + ρ I.
        bayesian = id(prior) == id(self.kernel)
        noise = self.filter.rho if bayesian and isinstance(self.filter, Ridge) else 0.0
        # A = Θ(x, X) V g(Λ) Vᵀ, (m, n). The filter acts on columns, and V g(Λ) Vᵀ is symmetric: Aᵀ = V g(Λ) Vᵀ Θ(X, x).
        readout = self._filtered(self.kernel(z, train).T).T
        if len(train) <= _KEPT_PRIOR:
            if "prior" not in self._shared:
                self._shared["prior"] = prior(train)
            through = readout @ self._shared["prior"]
        else:
            # A K(X, X) is the transpose of f(X) for f(x) = K(x, X) Aᵀ, which has a block of the matrix in memory at a time.
            through = prior.expansion(train, readout.T, torch.float64)(train).T
        before = prior.diagonal(z) if diagonal else prior(z)
        return trained_covariance(before, prior(z, train), through, readout, noise).to(x.dtype)

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise InputError("the machine has no training data yet. Call fit(x, y) or KernelMachine.load first.")


def _check_arithmetic(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected arithmetic torch.float64 or torch.float32; got {dtype!r}.")
