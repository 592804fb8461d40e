"""Write kernel matrices from the command line: to a file, whole, or to a store, tile by tile."""

from __future__ import annotations

import hashlib
import json as encoder
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntklens.cli import console
from ntklens.cli.homes import how_to_go_on
from ntklens.cli.planned import PlannedHome
from ntklens.errors import InputError
from ntklens.files import first_line, written_whole

if TYPE_CHECKING:
    from torch import Tensor

    from ntklens.kernels import Kernel
    from ntklens.linalg import StoreHome
    from ntklens.linalg.tiles import Plan
    from ntklens.study.context import Context

_ROWS = 256
"""Test images whose rows are computed between two reports."""
_HELD = 1.3
"""Matrices (n, n) that are held while the kernel matrix is computed and written."""


def write_file(context: Context, kind: str, out: Path, *, json: bool) -> None:
    """Write the matrix of the training images, and that of the test images against them, to a file.

    Raises:
        InputError: there is no room in memory or on the disk; the message names the store.
    """
    import torch

    from ntklens.kernels.entries import KernelEntries
    from ntklens.linalg.whole_plan import whole_plan

    kernel, (x, y), (x_test, y_test) = _kernel(context, kind), context.train, context.test
    started = time.perf_counter()
    n, m = len(x), len(x_test)
    more = 8 * n * m
    plan = whole_plan(n, _HELD, entries=KernelEntries(kernel, x), more=more)
    _check_disk(out, plan.matrix_bytes + more)
    stages = ["kernel matrix", *(["test images"] if m else []), "file"]
    try:
        with console.progress(stages) as watch:
            tile = plan.matrix_seconds or 0.0
            watch.expect(str(plan), {"kernel matrix": tile, "test images": 2 * tile * m / n})
            plan.check()
            x, x_test = x.to(torch.float64), x_test.to(torch.float64)
            watch("kernel matrix", 0.0)
            tensors = {kind: kernel.gram(x, partial(watch, "kernel matrix"))}
            _check_values(tensors[kind], n)
            if m:
                watch("test images", 0.0)
                across = torch.empty(m, n, dtype=torch.float64)
                for start in range(0, m, _ROWS):
                    across[start : start + _ROWS] = kernel.between(x_test[start : start + _ROWS], x)
                    watch("test images", min(1.0, (start + _ROWS) / m))
                tensors[f"{kind}_test"] = across
                tensors["y_test"] = y_test
            tensors["y_train"] = y
            watch("file", 0.0)
            about = _about(context, kernel, kind)
            _write(out, {name: tensor.cpu() for name, tensor in tensors.items()}, about)
            watch("file", 1.0)
    except KeyboardInterrupt:
        out.with_name(f"{out.name}.part").unlink(missing_ok=True)
        console.note(how_to_go_on(None))
        raise
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    result = about | {"file": str(out), "arrays": shapes, "plan": str(plan), "seconds": _since(started)}
    if json:
        console.as_json(result)
    else:
        listed = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        console.say(f"{out}: {listed}")


def write_store(context: Context, kind: str, home: StoreHome, *, json: bool) -> None:
    """Write the tiles of the matrix of the training images that are missing in a store.

    Raises:
        InputError: the disk has no room, or the folder holds another matrix.
    """
    import torch

    from ntklens.kernels.entries import KernelEntries
    from ntklens.linalg.tiles import Layout
    from ntklens.linalg.tiles.equal import Groups
    from ntklens.machine.matrix import identity

    kernel, (x, _) = _kernel(context, kind), context.train
    started = time.perf_counter()
    layout = Layout(len(x))
    # As a machine names the matrix of images that all differ, so that a fit finds the tiles.
    name = f"{identity(kernel, x)} {Groups(torch.arange(len(x))).identity()}"
    try:
        with console.progress(["kernel matrix"]) as watch:

            def tell(plan: Plan) -> None:
                seconds = plan.matrix_seconds
                watch.expect(str(plan), {} if seconds is None else {"kernel matrix": seconds})
                watch("kernel matrix", 0.0)

            planned = PlannedHome(home, tell, partial(watch, "kernel matrix"))
            planned.matrix(layout, KernelEntries(kernel, x), name)
    except KeyboardInterrupt:
        console.note(how_to_go_on(Path(home.path)))
        raise
    about = _about(context, kernel, kind)
    result = about | {"store": str(home.path), "tiles": layout.count, "plan": planned.told, "seconds": _since(started)}
    if json:
        console.as_json(result)
    else:
        console.say(
            f"{home.path}: {kind} {len(x)}x{len(x)}, all {layout.count:,} tiles of the lower triangle are there"
        )


def _kernel(context: Context, kind: str) -> Kernel:
    kernel = context.kernel()
    return kernel if kind == "ntk" else kernel.prior


def _about(context: Context, kernel: Kernel, kind: str) -> dict[str, Any]:
    """Return what tells the matrix from others."""
    data = context.data
    return {
        "kind": kind,
        "network": context.network.label,
        "kernel": kernel.identity(),
        "data": data.name,
        "data_fingerprint": data.fingerprint(),
        "classes": list(data.classes),
        "x_train_digest": _digest(data.train.x),
        "x_test_digest": _digest(data.test.x),
        "seed": context.spec.seed,
    }


def _digest(x: Tensor) -> str:
    """Return the SHA-256 sum of images, as float32 in the order of their axes."""
    return hashlib.sha256(x.contiguous().numpy().tobytes()).hexdigest()


def _check_values(matrix: Tensor, n: int) -> None:
    if matrix.shape != (n, n):
        raise InputError(
            f"expected a kernel with one value per pair of images, ({n}, {n}); got {tuple(matrix.shape)}. Give a network "
            "with one output."
        )


def _check_disk(out: Path, size: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise InputError(
            f"--out: {out} takes {size / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free on its disk. Choose another disk, "
            "or take fewer images."
        )


def _write(out: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write arrays and what they are to a file, whole or not at all."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with written_whole(out) as partial_file:
            if out.suffix == ".npz":
                texts = {name: np.array(about[name]) for name in ("x_train_digest", "x_test_digest")}
                arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
                with partial_file.open("wb") as file:
                    np.savez(file, **arrays, **texts, about=np.array(encoder.dumps(about)))  # type: ignore[arg-type]
            else:
                metadata = {
                    name: value if isinstance(value, str) else encoder.dumps(value) for name, value in about.items()
                }
                save_file(tensors, str(partial_file), metadata=metadata)
    except (OSError, SafetensorError) as error:
        out.with_name(f"{out.name}.part").unlink(missing_ok=True)
        raise InputError(f"--out: {out} cannot be written: {first_line(error)}.") from error


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
