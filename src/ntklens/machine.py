"""The kernel machine: a fitted kernel predictor that is a torch module and a classifier in scikit-learn's manner."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.base import Kernel, WithPrior
from ntklens.kernels.expansion import Expansion, expansion
from ntklens.linalg import Factorisation, Filter, Ridge, trained_covariance

_PROBE = 3
"""Training inputs whose kernel values are saved with a machine, to tell another kernel by."""


class _Evaluate(torch.autograd.Function):
    """Θ(x, X) α with the kernel's own gradient, so that no graph of the recursion is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, machine: KernelMachine) -> Tensor:
        f, ctx.slope = machine.expansion.vjp(x.detach())
        return f.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        slope: Tensor = ctx.slope(grads[0])
        if torch.is_grad_enabled():  # asked for with create_graph=True
            slope = _Once.apply(slope.detach().requires_grad_())  # type: ignore[no-untyped-call]
        return slope, None


class _Once(torch.autograd.Function):
    """The end of what can be differentiated: an error, where silence would be a second derivative of zero."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise NotImplementedError("a kernel machine can be differentiated once; take differences of its gradient.")


class KernelMachine(nn.Module):
    """f(x) = Θ(x, X) V g(Λ) Vᵀ Y: the network's mean prediction in the infinite-width limit (docs/formulas.md).

    It is an `nn.Module` with inputs in [0, 1], one logit a class out and a differentiable forward, so every attack that
    takes a torch model takes it. For two classes the paper's scalar f (targets -1 and +1) is served as the logits
    (-f/2, f/2), whose cross-entropy is the binary cross-entropy of f; more classes are fitted to one-hot targets.

    Args:
        kernel: any `Kernel`.
        filter: g, such as `Ridge(0.0)` (training for ever, the default), `GradientFlow` or `GradientDescent` (training
            for a time), `Band` (chosen features).
        arithmetic: of Θ(x, X) and its gradient once the machine is fitted. In float64, the default, outputs and gradients
            are right to the dtype of x. float32 attacks two to four times as fast; what it rounds is magnified by the
            coefficients: on 4,000 images of Fashion-MNIST at ridge 0, gradients are right to 4e-6 and outputs to 1e-4.

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
        if arithmetic not in (torch.float32, torch.float64):
            raise InputError(f"arithmetic must be torch.float64 or torch.float32; {arithmetic} came.")
        self.kernel = kernel
        self.arithmetic = arithmetic
        self.filter: Filter = Ridge(0.0) if filter is None else filter
        self._factorisation: Factorisation | None = None
        self._shared: dict[str, Tensor] = {}
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
            y: class indices, or float targets (n, O) to be used as they are.

        Raises:
            InputError: labels that do not fit the inputs, or no memory for Θ(X, X).
            NumericalFailure: Θ is singular to rounding where the filter inverts it.
        """
        _check_floating(x)
        if not len(x):
            raise InputError("at least one training image was expected; none came.")
        self.train_inputs = x.detach().clone()
        self.targets = _targets(x, y)
        self._shared = {}
        self._factorisation = Factorisation(self._matrix())
        self.coefficients = self._factorisation.apply(self.filter, self.targets)
        return self

    def refilter(self, filter: Filter) -> KernelMachine:
        """The machine of another filter on the same training data, sharing this one's kernel matrix and factors."""
        twin = copy.copy(self)
        twin._buffers = dict(self._buffers)
        twin.filter = filter
        twin.coefficients = self.factorisation.apply(filter, self.targets)
        return twin

    @property
    def factorisation(self) -> Factorisation:
        """Θ(X, X), its factors and its spectrum; computed anew after `load`."""
        self._check_fitted()
        if self._factorisation is None:
            self._factorisation = Factorisation(self._matrix())
        return self._factorisation

    @property
    def expansion(self) -> Expansion:
        """The function Θ(x, X) α with its gradient, in float64 and in this machine's arithmetic; kept until α changes."""
        self._check_fitted()
        if self._expanded is None or self._expanded[0] is not self.coefficients:
            self._expanded = self.coefficients, self.expand(self.coefficients)
        return self._expanded[1]

    def expand(self, coefficients: Float[Tensor, "n k"], arithmetic: torch.dtype | None = None) -> Expansion:
        """The function Θ(x, X) A with its gradient, for any coefficients, in this machine's arithmetic or another."""
        self._check_fitted()
        inside = self.arithmetic if arithmetic is None else arithmetic
        return expansion(self.kernel, self.double_inputs, coefficients.to(torch.float64), inside)

    def outputs(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m O"]:
        """Raw predictions Θ(x, X) α, one column a target; differentiable in x, once."""
        self._check_fitted()
        _check_floating(x)
        if x.shape[1:] != self.train_inputs.shape[1:]:
            shape = ", ".join(map(str, self.train_inputs.shape[1:]))
            raise InputError(f"inputs of shape (n, {shape}), as in training, were expected; {tuple(x.shape)} came.")
        if torch.is_grad_enabled() and x.requires_grad:
            result: Tensor = _Evaluate.apply(x, self)  # type: ignore[no-untyped-call]
            return result
        return self.expansion(x.detach()).to(x.dtype)

    def forward(self, x: Float[Tensor, "m *shape"]) -> Float[Tensor, "m classes"]:
        """One logit a class: the raw outputs, or (-f/2, f/2) for one scalar output f."""
        f = self.outputs(x)
        return torch.cat([-f / 2, f / 2], 1) if f.shape[1] == 1 else f

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
        """Class indices; or the mean outputs of the infinitely many networks of this machine, and their spread.

        The networks start from the kernel's prior (for an analytic kernel its NNGP) and are trained as the filter
        says, so the spread at time 0 is the prior's and shrinks at the training points (Lee et al. 2019, eq. 16). A
        machine that is fitted on a prior itself, such as `KernelMachine(kernel.prior, Ridge(noise))`, is the Bayesian
        posterior under Gaussian noise of that variance.

        Args:
            x: (m, ...) inputs.
            return_std: return `outputs(x)` and the standard deviation, both (m, O).
            return_cov: return `outputs(x)`, (m, O), and the covariance between the inputs, (m, m); it is the same for
                every output, and outputs are independent.

        Raises:
            InputError: the kernel knows no prior, or both are asked for.
        """
        if return_std and return_cov:
            raise InputError("ask for return_std or return_cov; the standard deviations are the covariance's diagonal.")
        if not return_std and not return_cov:
            logits: Tensor = self(x)
            return logits.argmax(1)
        mean = self.outputs(x)
        if return_cov:
            return mean, self._spread(x, diagonal=False)
        return mean, self._spread(x, diagonal=True).sqrt()[:, None].expand_as(mean)

    @torch.no_grad()
    def predict_proba(self, x: Tensor) -> Float[Tensor, "m classes"]:
        """Softmax of the logits."""
        return torch.softmax(self(x), 1)

    def score(self, x: Tensor, y: Int[Tensor, " m"]) -> float:
        """Accuracy, from 0 to 1."""
        return float((self.predict(x) == y).double().mean())

    @property
    def double_inputs(self) -> Tensor:
        """The training inputs in float64: large coefficients of either sign would magnify what float32 rounds."""
        return self._inputs(torch.float64)

    @property
    def working_inputs(self) -> Tensor:
        """The training inputs in this machine's arithmetic."""
        return self._inputs(self.arithmetic)

    def _inputs(self, dtype: torch.dtype) -> Tensor:
        """The training inputs in a dtype, kept."""
        name = f"inputs {dtype}"
        kept = self._shared.get(name)
        if kept is None or kept.device != self.train_inputs.device:
            kept = self._shared[name] = self.train_inputs.to(dtype)
        return kept

    def save(self, path: str | Path) -> None:
        """Write the training data and the coefficients as safetensors; the kernel is code, and `load` is given it."""
        self._check_fitted()
        tensors = {k: v.contiguous() for k, v in self._buffers.items() if v is not None}
        tensors["probe"] = self.kernel(self.double_inputs[:_PROBE]).contiguous()
        save_file(tensors, str(path), metadata={"kernel": repr(self.kernel), "filter": repr(self.filter)})

    @classmethod
    def load(cls, path: str | Path, kernel: Kernel, filter: Filter | None = None) -> KernelMachine:
        """A machine as it was saved.

        Args:
            path: file written by `save`.
            kernel: the same kernel; its description is compared with the saved one.
            filter: the filter that the coefficients were made with; only `repr` is compared.

        Raises:
            InputError: no such file, another kind of file, or another kernel than was saved.
        """
        try:
            with safe_open(str(path), "pt") as file:
                metadata: dict[str, Any] = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give a file written by KernelMachine.save.") from None
        except SafetensorError as error:
            raise InputError(f"{path} is not a safetensors file written by KernelMachine.save.") from error
        if metadata.get("kernel") != repr(kernel):
            raise InputError(f"{path} was saved with the kernel {metadata.get('kernel')}; {kernel!r} came.")
        machine = cls(kernel, filter)
        if metadata.get("filter") != repr(machine.filter):
            raise InputError(f"{path} was saved with the filter {metadata.get('filter')}; {machine.filter!r} came.")
        probe = tensors.pop("probe")
        values = kernel(tensors["train_inputs"][:_PROBE].to(torch.float64))
        if not torch.allclose(values.to(probe), probe, rtol=1e-6, atol=0.0):
            raise InputError(
                f"{path} was saved with another kernel: its values differ; give the network that it was made of."
            )
        for name, tensor in tensors.items():
            setattr(machine, name, tensor)
        return machine

    def extra_repr(self) -> str:
        """Kernel, filter and number of training inputs."""
        n = f", n={len(self.train_inputs)}" if self.is_fitted else ", not fitted"
        return f"{self.kernel!r}, {self.filter!r}{n}"

    def _matrix(self) -> Tensor:
        """Θ(X, X)."""
        try:
            return self.kernel(self.double_inputs)
        except RuntimeError as error:
            if "allocate memory" not in str(error) and "out of memory" not in str(error):
                raise
            n = len(self.train_inputs)
            raise InputError(
                f"the kernel matrix of {n:,} training images takes {8e-9 * n * n:.1f} GB, more than there is; fit on fewer."
            ) from error

    def _spread(self, x: Tensor, *, diagonal: bool) -> Tensor:
        """Covariance of the trained networks at x, (m, m), or its diagonal, (m,), in the dtype of x."""
        if not isinstance(self.kernel, WithPrior):
            raise InputError(
                f"{type(self.kernel).__name__} knows no covariance before training; use a kernel that does, such as "
                "analytic_kernel(module)."
            )
        prior, z, train = self.kernel.prior, x.to(torch.float64), self.double_inputs
        if "prior" not in self._shared:
            self._shared["prior"] = prior(train)
        bayesian = id(prior) == id(self.kernel)  # conditioned on noisy targets, not trained
        noise = self.filter.rho if bayesian and isinstance(self.filter, Ridge) else 0.0
        readout = self.factorisation.apply(self.filter, self.kernel(z, train).T).T
        before = prior.diagonal(z) if diagonal else prior(z)
        return trained_covariance(before, prior(z, train), self._shared["prior"], readout, noise).to(x.dtype)

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise InputError("this machine has no training data yet; call fit(x, y) or KernelMachine.load first.")


def _check_floating(x: Tensor) -> None:
    if not x.is_floating_point():
        raise InputError(f"images as floating-point numbers in [0, 1] were expected; {x.dtype} came: divide by 255.")


def _targets(x: Tensor, y: Tensor) -> Tensor:
    """±1 for two classes, one-hot for more, float targets as they are; (n, O) in float64."""
    if y.is_floating_point():
        if y.ndim != 2 or len(y) != len(x):
            raise InputError(f"float targets of shape ({len(x)}, outputs) were expected; {tuple(y.shape)} came.")
        if not bool(y.isfinite().all()):
            raise InputError("finite targets were expected; some are NaN or infinite.")
        return y.detach().to(torch.float64)
    if y.dtype == torch.bool or y.is_complex() or y.shape != (len(x),):
        raise InputError(f"{len(x)} class indices, one an input, were expected; {y.dtype} of {tuple(y.shape)} came.")
    classes = torch.unique(y)
    if int(classes.min()) < 0 or len(classes) < 2:
        raise InputError("class indices from 0 on, of two classes at least, were expected; look at y.unique().")
    if int(classes.max()) == 1:
        return (2.0 * y.to(torch.float64) - 1)[:, None]
    return nn.functional.one_hot(y.long(), int(classes.max()) + 1).to(torch.float64)
