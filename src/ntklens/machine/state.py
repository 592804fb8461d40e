"""The state of a fitted machine as a torch module: what it holds, and how that is copied, moved, saved and loaded."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ntklens.arguments import as_floats, as_path
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Expansion
from ntklens.linalg import Applied, Factorisation, Filter, Spectrum, check_filter
from ntklens.linalg.tiles import Home, TiledFactorisation
from ntklens.machine import file as machine_file

TENSORS = ("train_inputs", "targets", "coefficients")
"""The tensors of a fitted machine, which are its buffers; None before it is fitted."""


FOR_THE_KERNEL_ALONE = "for the kernel alone"
"""What a warning says of training inputs that are not equal pixel by pixel."""


class FittedState(nn.Module):
    """Training data and coefficients as buffers, and what is computed from them when it is first needed."""

    kernel: Kernel
    filter: Filter
    train_inputs: Tensor
    targets: Tensor
    coefficients: Tensor
    arithmetic: torch.dtype

    def __init__(self) -> None:
        super().__init__()
        self._factorisation: Factorisation | TiledFactorisation | None = None
        self._home: Home | None = None  # where the tiles of the matrix are kept
        self._solution: Applied | None = None  # how the coefficients were found
        # The eigenpairs that the filter acts on, as an argument of `refilter`; None for the default.
        self._spectrum: Spectrum | None = None
        # Functions of the training inputs alone, computed when first needed; machines of other filters share them.
        self._shared: dict[str, Tensor] = {}
        # What `expansion` was computed for, and the expansion.
        self._expanded: tuple[object, Expansion] | None = None
        for name in TENSORS:
            self.register_buffer(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the kernel and the filter of a fitted machine stay, because its coefficients come from them."""
        if (
            name in ("kernel", "filter")
            and "_buffers" in self.__dict__
            and self._buffers.get("coefficients") is not None
        ):
            raise InputError(
                f"the {name} of a fitted machine does not change. Call machine.refilter(filter) for another filter, or "
                "machine.set_params(...) and fit again."
            )
        super().__setattr__(name, value)

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` or `load` has run."""
        return self.coefficients is not None

    def _hold(
        self, train_inputs: Tensor | None = None, targets: Tensor | None = None, coefficients: Tensor | None = None
    ) -> None:
        """Take over training data and forget what was computed from earlier ones."""
        self._buffers.update(train_inputs=train_inputs, targets=targets, coefficients=coefficients)
        self._factorisation = self._spectrum = self._expanded = self._solution = self._home = None
        self._shared = {}

    def with_coefficients(self, coefficients: Float[Tensor, "n O"], filter: Filter) -> Any:
        """Return a machine with other coefficients on the same training data, which shares its matrix and spectrum.

        Args:
            coefficients: α of f(x) = Θ(x, X) α, one column per target.
            filter: what stands in a filter's place, such as `Trained`.
        """
        a = as_floats(coefficients, "coefficients").detach().to(torch.float64)
        if a.shape != self.targets.shape:
            raise InputError(f"expected coefficients of shape {tuple(self.targets.shape)}; got {tuple(a.shape)}.")
        check_filter(filter)
        twin = self._twin()
        twin.__dict__.update(filter=filter, _spectrum=None)
        twin.coefficients, twin._solution = a, Applied(a, repr(filter))
        return twin

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

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise InputError("the machine has no training data yet. Call fit(x, y) or KernelMachine.load first.")

    def _twin(self) -> Any:
        """Return a copy that shares everything, and whose tensors can be replaced without a change of this machine."""
        twin = copy.copy(self)
        twin._buffers = dict(self._buffers)  # a shallow copy shares the dictionary itself
        return twin

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Add to the tensors what a loading machine recognises the kernel and the filter by."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.is_fitted and self.train_inputs.device.type != "meta":
            identity = machine_file.identity(self.kernel, self.filter, self.train_inputs)
            destination.update({prefix + name: tensor for name, tensor in identity.items()})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over the state of another machine with this kernel and filter.

        Args:
            state_dict: what `state_dict` of the other machine gave.
            strict: refuse a state that lacks tensors or has others.
            assign: without effect, since the tensors are copied.

        Raises:
            InputError: no such state, or that of a machine with another kernel or filter.
        """
        if not isinstance(state_dict, Mapping):
            raise InputError(f"expected state_dict as the state of a machine; got {type(state_dict).__name__}.")
        return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take over the state of another machine with this kernel and filter, whether this one is fitted or not.

        torch itself copies into tensors that exist, of the same shapes; before `fit` there are none.

        Raises:
            InputError: the state is that of a machine with another kernel or filter, or with `strict` it is not whole.
        """
        state = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
        names = {*TENSORS, *machine_file.IDENTITY}
        unexpected = [name for name in state if name not in names]
        if strict and unexpected:
            raise InputError(
                f"expected the state of a kernel machine, {', '.join(sorted(names))}; got {', '.join(sorted(unexpected))} "
                "too. Pass the state_dict of a machine."
            )
        unexpected_keys.extend(prefix + name for name in unexpected)
        if missing := names - set(state):
            # The state of a machine before `fit` holds nothing, and fits another one before `fit`.
            if self.is_fitted or len(missing) < len(names):
                if strict:
                    raise InputError(
                        f"expected the state of a fitted kernel machine; got one without {', '.join(sorted(missing))}. "
                        "Pass the whole state_dict of the machine."
                    )
                missing_keys.extend(prefix + name for name in sorted(missing))
            return
        machine_file.check(state, self.kernel, self.filter, "the state")
        device = self.train_inputs.device if self.is_fitted else None
        self._hold(*(state[name].detach().to(device, copy=True) for name in TENSORS))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FittedState:
        """Move the machine to another device; `half`, `float` and `to(dtype)` leave the precision of its buffers."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        before = self.train_inputs.device if self.is_fitted else None
        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        if self.is_fitted and self.train_inputs.device != before:
            device = self.train_inputs.device
            self._shared, self._expanded = {}, None
            # Tiles are computed again on the other device.
            dense = self._factorisation if isinstance(self._factorisation, Factorisation) else None
            self._factorisation = None if dense is None else Factorisation(dense.matrix.to(device))
            if (spectrum := self._spectrum) is not None:
                self._spectrum = Spectrum(spectrum.eigenvalues.to(device), spectrum.eigenvectors.to(device))
        return self


def warn_of_copies(groups: Tensor, inputs: Tensor, targets: Tensor) -> None:
    """Warn of training inputs that are equal, and of those whose targets differ.

    Args:
        groups: (n,), the number of the distinct input that each input is.
        inputs: (n, *shape); some may be equal for the kernel alone.
        targets: (n, O).
    """
    first: dict[int, int] = {}
    copies: list[tuple[int, int]] = []
    for i, group in enumerate(groups.tolist()):
        if group in first:
            copies.append((i, first[group]))
        else:
            first[group] = i
    unlike = sum(not torch.equal(inputs[i], inputs[j]) for i, j in copies)
    alone = f", {unlike} of them {FOR_THE_KERNEL_ALONE}" if unlike else ""
    conflicts = sum(not torch.equal(targets[i], targets[j]) for i, j in copies)
    listed = ", ".join(f"{i} of {j}" for i, j in copies[:5]) + (", ..." if len(copies) > 5 else "")
    differing = f"{conflicts} of them with another target than the first" if conflicts else "all with equal targets"
    warnings.warn(
        f"{len(copies):,} of {len(groups):,} training inputs are copies of others ({listed}){alone}, {differing}. At ridge "
        "0 equal inputs are fitted as one, to the mean of their targets.",
        stacklevel=4,
    )
