"""The kernel machine: a fitted kernel predictor that is a torch module and a scikit-learn-style classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_floats, as_images, as_path, check_range, same_device
from ntklens.errors import InputError, NumericalFailure
from ntklens.estimator import Estimator
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Expansion
from ntklens.linalg import (
    Applied,
    CrossEntropy,
    Factorisation,
    Filter,
    Ridge,
    Spectrum,
    Unfiltered,
    check_filter,
    inverts,
)
from ntklens.linalg.tiles import Home, TiledFactorisation
from ntklens.machine import file as machine_file
from ntklens.machine.matrix import check_home, factored, merged_groups, trained_on_cross_entropy
from ntklens.machine.outputs import ExpansionOutputs
from ntklens.machine.spread import spread
from ntklens.machine.state import FittedState, warn_of_copies
from ntklens.modules import without_autocast
from ntklens.progress import Report
from ntklens.targets import class_logits, regression_targets
from ntklens.texts import shortened


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
        home: Home | None = None,
        progress: Report | None = None,
    ) -> KernelMachine:
        """Compute Θ(X, X), factor it and solve for the coefficients; `solution` then says how well that went.

        Beyond 4,096 inputs the lower triangle is kept in tiles, and its factor takes their place: 14.4 GB for 60,000.

        Args:
            x: training inputs, pixels in [0, 1].
            y: class indices, or float targets (n, O), which are used unchanged.
            home: where the matrix is kept: `nl.MemoryHome()`, `nl.StoreHome(folder)` for one that is larger than memory, or
                `nl.ClusterHome(address)`. By default it is in memory.
            progress: called with the share of the time that is over, from 0 to 1. For a matrix that is kept whole the share
                stands still during its factor.

        Raises:
            InputError: the labels do not fit the inputs, or Θ(X, X) does not fit into memory or into the store.
            NumericalFailure: the filter inverts Θ, which is singular to rounding.
        """
        x = as_images(x)
        if not x.numel():
            raise InputError(f"expected x as at least one training input; got shape {tuple(x.shape)}.")
        targets = regression_targets(y, len(x)).to(x.device)
        check_home(home)
        # A copy is fitted and its state taken over when it is done: what fails leaves this machine as it was.
        new: KernelMachine = self._twin()
        new._hold(x.detach().clone(), targets)
        new._factorisation = factored(self.kernel, new.train_inputs, self.filter, home, progress)
        coefficients = new._filtered(targets, progress)
        self._hold(new.train_inputs, targets, coefficients)
        self._factorisation, self._shared, self._home = new._factorisation, new._shared, home
        self._solution = new._factors.last
        if progress is not None:
            progress(1.0)
        return self

    def refilter(self, filter: Filter, spectrum: Spectrum | None = None) -> KernelMachine:
        """Return a machine with another filter that shares training data, matrix, factor and spectrum with this one.

        Args:
            filter: the other filter.
            spectrum: eigenpairs of Θ(X, X) that the filter acts on, from `factorisation.spectrum` or
                `factorisation.leading(count)`. By default `Ridge` is solved by Cholesky, and the other filters take the
                whole spectrum, or a Krylov space where the matrix is in tiles.
        """
        twin: KernelMachine = self._twin()
        check_filter(filter)
        if spectrum is not None and not isinstance(spectrum, Spectrum):
            raise InputError(f"expected spectrum as that of machine.factorisation; got {type(spectrum).__name__}.")
        twin.__dict__.update(filter=filter, _spectrum=spectrum, _factorisation=self.factorisation)
        twin.coefficients = twin._filtered(self.targets)
        twin._solution = twin._factors.last
        return twin

    def _filtered(self, columns: Tensor, progress: Report | None = None) -> Tensor:
        """Compute V g(Λ) Vᵀ columns, with equal training inputs taken as one where g inverts Θ."""
        factors = self._factors
        if isinstance(self.filter, CrossEntropy):
            return trained_on_cross_entropy(factors, self.filter, columns, progress)
        if isinstance(factors, TiledFactorisation):
            coefficients = factors.apply(self.filter, columns, self._spectrum, progress)
            groups = factors.groups
            if inverts(self.filter) and not groups.are_alone and "equal" not in self._shared:
                self._shared["equal"] = groups.numbers
                warn_of_copies(groups.numbers, self.train_inputs, self.targets)
            return coefficients
        if "equal" not in self._shared:
            try:
                return factors.apply(self.filter, columns, self._spectrum)
            except NumericalFailure:
                if self._spectrum is not None or not inverts(self.filter):
                    raise
                groups_of = merged_groups(factors, self.train_inputs)
                if int(groups_of.max()) + 1 == len(groups_of):
                    raise
                self._shared["equal"] = groups_of
                warn_of_copies(groups_of, self.train_inputs, self.targets)
        elif self._spectrum is not None or not inverts(self.filter):
            return factors.apply(self.filter, columns, self._spectrum)
        return factors.solve_merged(self._shared["equal"], columns)

    @property
    def factorisation(self) -> Factorisation | TiledFactorisation:
        """Θ(X, X) with its factor and its spectrum; a loaded machine computes it when it is first needed."""
        self._check_fitted()
        return self._factors

    @property
    def _factors(self) -> Factorisation | TiledFactorisation:
        if self._factorisation is None:
            self._factorisation = factored(self.kernel, self.train_inputs, self.filter, self._home)
        return self._factorisation

    @property
    def solution(self) -> Applied:
        """How the coefficients were found, and how well; of a machine that was loaded, InputError."""
        self._check_fitted()
        if self._solution is None:
            raise InputError("the machine was loaded, and its file does not say how its coefficients were found.")
        return self._solution

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
            result: Tensor = ExpansionOutputs.apply(x, self.expansion)  # type: ignore[no-untyped-call]
            return result
        return self.expansion(x.detach()).to(x.dtype)

    @torch.no_grad()
    def readout(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m n"]:
        """Return Θ(x, X) V g(Λ) Vᵀ: the weights of the training targets in the outputs, which are these times Y."""
        if isinstance(self.filter, Unfiltered):
            self.filter(self.double_inputs)  # which raises: the outputs are not linear in the targets
        # The filter acts on columns, and V g(Λ) Vᵀ is symmetric.
        return self._filtered(self.kernel(self.checked(x).to(torch.float64), self.double_inputs).T).T

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
            raise InputError("expected return_std or return_cov; got both. Variances are the covariance's diagonal.")
        if not return_std and not return_cov:
            return torch.argmax(self(x), 1)
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
            shortened(repr(part), width, keep_start=1.0) for part, width in ((self.kernel, 48), (self.filter, 18))
        )
        fitted = f"fitted on {len(self.train_inputs):,}" if self.is_fitted else "not fitted"
        return f"KernelMachine({kernel}, {filter}, {fitted})"

    def extra_repr(self) -> str:
        """Return the kernel, the filter and the number of training inputs."""
        return f"{self.kernel!r}, {self.filter!r}" + (
            f", n={len(self.train_inputs)}" if self.is_fitted else ", not fitted"
        )

    def _spread(self, x: Tensor, *, diagonal: bool) -> Tensor:
        """Compute the covariance of the trained networks at x, (m, m), or its diagonal, (m,)."""
        return spread(
            x, kernel=self.kernel, filter=self.filter, train=self.double_inputs, readout=self.readout(x),
            kept=self._shared, diagonal=diagonal,
        )  # fmt: skip


def _check_arithmetic(dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected arithmetic torch.float64 or torch.float32; got {dtype!r}.")
