"""`ntklens fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

if TYPE_CHECKING:
    from ntklens.linalg import Filter

Steps = Annotated[int | None, typer.Option("--steps", help="Stop after so many steps of gradient descent.")]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        help="Learning rate η of the sum of squares, for --time (default: 1) and for --steps (needed).",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="Keep the kernel matrix on a Dask cluster, that of this scheduler: tcp://host:8786."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Keep the kernel matrix in this many processes on this machine, which compute it."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Precision of a matrix in memory: auto (float64 where it fits, the default), float64, or float32, which takes "
        "half the memory and is refined to float64.",
    ),
]


def fit(
    network: o.Network = "fc1",
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    weights: o.Weights = None,
    kernel: o.KernelKind = "analytic",
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    time: o.FlowTime = None,
    steps: Steps = None,
    learning_rate: LearningRate = None,
    store: o.Store = None,
    scheduler: Scheduler = None,
    workers: Workers = None,
    memory_limit: o.MemoryLimit = None,
    precision: Precision = None,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/fit"),
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Fit a kernel machine, on many images too, and save it for the other commands.

    What the kernel matrix takes is told before it is computed. With --store an interrupted fit continues when the same
    command is given again. The machine is written to machine.safetensors in the run's folder, and how it was found, its
    accuracy and what it took to fit.json.

    Example: ntklens fit fc3 --data mnist --data-dir ~/datasets --ridge 1e-3 --out runs/mnist

    Example: ntklens fit conv2 --data cifar10 --data-dir ~/datasets --store tiles/ --memory-limit 4GB

    Example: ntklens attack --victim runs/mnist/machine.safetensors --data mnist --data-dir ~/datasets
    """
    from ntklens.cli.homes import check_places

    check_places(store, scheduler, workers, memory_limit, precision)
    if store is not None and store.absolute().is_relative_to(out.absolute()):
        raise InputError(f"--store: expected a folder outside of --out, which is {out}; got {store}. Give another one.")
    _check_filter(ridge, time, steps, learning_rate)
    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)

    from ntklens.cli.fitting import Settings, run_fit
    from ntklens.cli.homes import home_of
    from ntklens.study import Spec

    kernel_part = o.kernel_part(w_std, b_std, 0.0, kernel) | {"architecture": network, "weights": weights}
    spec = Spec.parse({"kind": "fit", "seed": seed, "device": device, "data": data_part, "kernel": kernel_part})
    home = home_of(store, scheduler, workers, memory_limit, precision)
    run_fit(
        Settings(spec, _filter(ridge, time, steps, learning_rate), home, store, out, overwrite=overwrite, json=json)
    )


def _check_filter(ridge: float, time: float | None, steps: int | None, learning_rate: float | None) -> None:
    """Raise InputError for options of two filters, or for a learning rate of none."""
    chosen = [
        name for name, value in (("--ridge", ridge or None), ("--time", time), ("--steps", steps)) if value is not None
    ]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} exclude each other; give one of them.")
    if learning_rate is not None and time is None and steps is None:
        raise InputError("--learning-rate needs --time or --steps; give one, or leave it out.")
    if steps is not None and steps < 1:
        raise InputError(f"--steps: expected 1 or more steps of gradient descent; got {steps}.")
    if steps is not None and learning_rate is None:
        raise InputError("--steps needs a --learning-rate, below 2 / λ_1 of the kernel matrix; give one.")


def _filter(ridge: float, time: float | None, steps: int | None, learning_rate: float | None) -> Filter:
    """Return the filter that the options describe."""
    from ntklens.linalg import GradientDescent, GradientFlow, Ridge

    if steps is not None and learning_rate is not None:
        return GradientDescent(steps, learning_rate)
    if time is not None:
        return GradientFlow(time, 1.0 if learning_rate is None else learning_rate)
    return Ridge(ridge)
