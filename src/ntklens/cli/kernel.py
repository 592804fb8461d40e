"""`ntklens kernel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

Kind = Annotated[
    str,
    typer.Option(
        "--kind", help="Which kernel: ntk, the tangent kernel, or nngp, the covariance of networks before training."
    ),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--out", help="File to write: .npz or .safetensors, with the test images against the training images too."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")]


def kernel(
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
    kind: Kind = "ntk",
    store: o.Store = None,
    memory_limit: o.MemoryLimit = None,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: File = None,
    overwrite: Overwrite = False,
    json: o.Json = False,
) -> None:
    """Write the kernel matrix of your images to a file, or to a store on disk where it is larger than memory.

    A file has the matrix of the training images, ntk or nngp, (n, n), and that of the test images against them, ntk_test or
    nngp_test, (m, n), with the classes of both. A store is a Zarr array with the lower triangle of the first one in tiles;
    the same command continues one that was interrupted, and `ntklens fit --store` finds the tiles there.

    Example: ntklens kernel fc3 --classes 2,4 --train 1000 --out kernel.npz

    Example: ntklens kernel conv2 --data cifar10 --data-dir ~/datasets --store tiles/
    """
    from ntklens.cli.homes import check_places

    check_places(store, memory_limit=memory_limit)
    if kind not in ("ntk", "nngp"):
        raise InputError(f'--kind: expected ntk or nngp; got "{kind}".')
    if (store is None) == (out is None):
        raise InputError("expected one place for the matrix, --out FILE.npz or --store FOLDER; give one of them.")
    if out is not None:
        _check_file(out, overwrite=overwrite)
    elif overwrite:
        raise InputError("--overwrite replaces the file of --out; a --store continues. Leave it out.")
    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)

    from ntklens.cli.homes import home_of
    from ntklens.cli.matrices import write_file, write_store
    from ntklens.linalg import StoreHome
    from ntklens.study import Spec
    from ntklens.study.context import Context

    kernel_part = o.kernel_part(w_std, b_std, 0.0, kernel) | {"architecture": network, "weights": weights}
    spec = Spec.parse({"kind": "kernel", "seed": seed, "device": device, "data": data_part, "kernel": kernel_part})
    home = home_of(store, memory_limit=memory_limit)
    if out is not None:
        write_file(Context(spec), kind, out, json=json)
    elif isinstance(home, StoreHome):
        write_store(Context(spec), kind, home, json=json)


def _check_file(out: Path, *, overwrite: bool) -> None:
    """Raise InputError for a file that cannot be written, or that is there."""
    if out.suffix not in (".npz", ".safetensors"):
        raise InputError(f'--out: expected a file that ends in .npz or .safetensors; got "{out}".')
    if not out.parent.is_dir():
        raise InputError(f"--out: the folder {out.parent} does not exist; make it, or choose another file.")
    if out.is_dir() or (out.exists() and not overwrite):
        raise InputError(f"--out: {out} exists; choose another file, or pass --overwrite to replace it.")
