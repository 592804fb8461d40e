"""What the units of an experiment's work cost, measured on its own kernels, networks and images."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch import Tensor, nn

from ntklens.attacks.objective import Objective
from ntklens.dynamics import KernelTracker
from ntklens.kernels import EmpiricalKernel, LinearKernel
from ntklens.kernels.base import Kernel
from ntklens.kernels.expansion import Expansion
from ntklens.linalg import factor_seconds
from ntklens.networks import BinaryLogits, NetworkSource
from ntklens.study.context import Context
from ntklens.study.costs.timing import timed
from ntklens.study.networks import given_network, initial_network
from ntklens.transfer import SurrogateName

Name = str | NetworkSource | SurrogateName
"""What a kernel is asked for by."""

_BATCH = 500
"""Images that an attack shows to a model at a time, about."""
_LONG_ROW = 0.6
"""Seconds of a row of kernel values from which on no more than one is measured."""
_FEW = 4
"""Inputs of a function whose cost does not grow with them."""
_MOST_SECONDS = 2.0
"""Seconds of all measurements, after which each takes the least there is."""


class Rates:
    """Unit costs in seconds; each is measured when it is first asked for, and kept.

    Args:
        context: the experiment.
        effort: seconds of one measurement, about.
        cruder: earlier measurements with less effort, which err on the long side: none is taken to be longer than there.
    """

    def __init__(self, context: Context, effort: float, cruder: Rates | None = None) -> None:
        self.context = context
        self._effort = effort
        self._known: dict[Hashable, float] = {}
        self._longest: dict[Hashable, float] = {} if cruder is None else cruder._known
        self._kernels: dict[Hashable, Kernel] = {}
        self._in_weights: dict[Hashable, Expansion | None] = {}
        self._spent = 0.0
        self._counted: set[Hashable] = set()

    def on(self, context: Context) -> Rates:
        """Return the unit costs on the images of another context; these ones where it is the same."""
        if context is self.context:
            return self
        other = Rates(context, self._effort)
        other._spent = self._spent
        return other

    def once(self, what: Hashable, seconds: float) -> float:
        """Return the seconds of what is computed once in a run: zero from the second time on."""
        first = what not in self._counted
        self._counted.add(what)
        return seconds if first else 0.0

    def kernel(self, name: Name = "") -> Kernel:
        """Return the kernel of a network or of a surrogate; the experiment's own for ""."""
        if name not in self._kernels:
            if isinstance(name, SurrogateName):
                self._kernels[name] = LinearKernel() if name.network is None else self.context.kernel_of(name)
            else:
                self._kernels[name] = self.context.kernel(name if isinstance(name, NetworkSource) else None)
        return self._kernels[name]

    def hold(self, name: str, kernel: Kernel) -> str:
        """Give a kernel a name."""
        self._kernels[name] = kernel
        return name

    def matrix(self, name: Name, n: int) -> float:
        """Seconds of Θ(X, X) of n training images."""
        x, kernel = self._train(n), self.kernel(name)

        def prepare(size: int) -> Callable[[], object]:
            return lambda: kernel.gram(x[:size])

        return self._measured(("matrix", name, n), prepare, n, start=8, power=2.0)

    def fit(self, name: Name, n: int, *, by_cholesky: bool = True) -> float:
        """Seconds of the matrix of n images and of its factor."""
        return self.matrix(name, n) + factor_seconds(n, by_cholesky=by_cholesky)

    def value(self, name: Name, n: int) -> float:
        """Seconds of a machine's outputs on one image, where it is fitted on n images."""
        return self._per_image("value", name, n)

    def gradient(self, name: Name, n: int) -> float:
        """Seconds of a machine's outputs and of a gradient of them at one image."""
        return self._per_image("gradient", name, n)

    def along(self, name: Name, n: int) -> float:
        """Seconds of one attack step on a feature, one image and a feature: its scalar there and the scalar's gradient."""
        return self._per_image("along", name, n)

    def _per_image(self, what: str, name: Name, n: int) -> float:
        rows = max(1, min(_BATCH, len(self.context.data.test)))
        columns = 8 if what == "along" else self.context.outputs
        function = self._in_weight_space(name, n, columns)
        if function is not None:
            # Its cost does not grow with n, and it costs as much to make as to use: one of a few inputs is measured.
            call = partial(self._call, what, function, columns)
            return self._measured((what, name), call, rows, start=2) / rows
        # A row of kernel values may take too long to be measured whole; then rows are measured in part.
        row = self._measured((what, name, n, "row"), lambda size: self._machine_call(what, name, size, 1), n, start=32)
        if row > _LONG_ROW or rows == 1:
            return row
        return (
            self._measured((what, name, n), lambda size: self._machine_call(what, name, n, size), rows, start=2) / rows
        )

    def _in_weight_space(self, name: Name, n: int, columns: int) -> Expansion | None:
        """Return a function of a kernel on a few inputs, where that on n inputs is one in weight space."""
        kernel = self.kernel(name)
        if not isinstance(kernel, EmpiricalKernel) or n < kernel.least_inputs(self._train(1), columns):
            return None
        key = (name, columns)
        if key not in self._in_weights:
            z = self._train(_FEW)
            ones = torch.ones(len(z), columns, dtype=torch.float64, device=z.device)
            self._in_weights[key] = kernel.in_weight_space(z, ones, torch.float64)
        return self._in_weights[key]

    def _machine_call(self, what: str, name: Name, n: int, rows: int) -> Callable[[], object]:
        """Return a call of a kernel's function on n inputs."""
        columns = 8 if what == "along" else self.context.outputs
        z = self._train(n)
        ones = torch.ones(len(z), columns, dtype=torch.float64, device=z.device)
        return self._call(what, self.kernel(name).expansion(z, ones, torch.float64), columns, rows)

    def _call(self, what: str, function: Expansion, count: int, rows: int) -> Callable[[], object]:
        x = self.context.test[0]
        x = x.repeat(-(-rows // len(x)), *[1] * (x.ndim - 1))[:rows]
        columns = torch.arange(rows, device=x.device) % count

        def gradient() -> object:
            values, pullback = function.vjp(x)
            return pullback(values)

        def along() -> object:
            _, pullback = function.along(x, columns)
            return pullback.along(columns, torch.arange(rows, device=x.device))

        return {"value": lambda: function(x), "gradient": gradient, "along": along}[what]

    def network(self, source: NetworkSource, width: int) -> nn.Module:
        """Return a network as trainings start from, or as it is where it brings its weights, with one logit per class."""
        if source.is_trained:
            return given_network(self.context, source).eval()
        return initial_network(self.context, source, 0, width=width).eval()

    def network_value(self, key: Hashable, network: nn.Module) -> float:
        """Seconds of a network's outputs on one image of a batch."""
        x, _ = self._images(self.context.test)

        def prepare(size: int) -> Callable[[], object]:
            return lambda: _without_graph(network, x[:size])

        return self._measured(("value", key), prepare, len(x), start=8) / len(x)

    def network_gradient(self, key: Hashable, network: nn.Module, batch: int = _BATCH) -> float:
        """Seconds of the gradient of the loss at one image of a batch."""
        x, y = self._images(self.context.test, batch)
        objective = Objective()

        def prepare(size: int) -> Callable[[], object]:
            return lambda: objective.gradient(network, x[:size], y[:size])

        return self._measured(("gradient", key, batch), prepare, len(x), start=8) / len(x)

    def step(self, key: Hashable, network: nn.Module, batch: int) -> float:
        """Seconds of one training step on a batch."""
        x, y = self._images(self.context.train, batch)
        parameters = [p for p in network.parameters() if p.requires_grad]

        def prepare(size: int) -> Callable[[], object]:
            def run() -> object:
                outputs = network(x[:size])
                if outputs.shape[1] == 1:  # trained on the squared error
                    outputs = BinaryLogits(nn.Identity())(outputs)
                loss = nn.functional.cross_entropy(outputs, y[:size])
                return torch.autograd.grad(loss, parameters)

            return run

        # The step itself reads and writes the parameters a few times, beside forward and backward.
        return self._measured(("step", key, batch), prepare, len(x), start=min(8, len(x)))

    def record(self, key: Hashable, network: nn.Module, probe: int, *, attacked: bool = True) -> float:
        """Seconds of the measurement of a network's kernel on a probe set, and on attacked images of it."""
        x, y = self.context.test
        probe = min(probe, len(x))

        def prepare(size: int) -> Callable[[], object]:
            attack = (lambda model, images, classes: images) if attacked else None
            tracker = KernelTracker(x[:size], y[:size], top_k=1, attack=attack)
            return lambda: tracker.record(network, 0)

        return self._measured(("record", key, probe), prepare, probe, start=4, power=2.0)

    def seconds(
        self, key: Hashable, prepare: Callable[[int], Callable[[], object]], target: int, start: int = 1
    ) -> float:
        """Seconds of any other piece of work, linear in its size; see `timed`."""
        return self._measured(key, prepare, target, start=start)

    def _measured(
        self,
        key: Hashable,
        prepare: Callable[[int], Callable[[], object]],
        target: int,
        *,
        start: int = 1,
        power: float = 1.0,
    ) -> float:
        if key not in self._known:
            before = time.perf_counter()
            effort = self._effort if self._spent < _MOST_SECONDS else 0.1 * self._effort
            seconds = timed(prepare, target, effort, start=start, power=power)
            self._known[key] = min(seconds, self._longest.get(key, seconds))
            self._spent += time.perf_counter() - before
        return self._known[key]

    def _train(self, n: int) -> Tensor:
        return self.context.train[0][:n].to(torch.float64)

    @staticmethod
    def _images(images: tuple[Tensor, Tensor], batch: int = _BATCH) -> tuple[Tensor, Tensor]:
        return images[0][:batch], images[1][:batch]


@torch.no_grad()
def _without_graph(network: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = network(x)
    return outputs
