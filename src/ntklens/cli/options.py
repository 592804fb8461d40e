"""Options that several commands share, the parsers of their values, and the parts of a Spec that they describe.

One rule holds for all commands: `--steps` is the number of steps of every attack in the command; `fit`, which attacks
nothing, has it for those of gradient descent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.errors import InputError

Data = Annotated[
    str, typer.Option("--data", help="Data set: a name that `ntklens data` lists, an .npz file, or a folder of images.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder that holds the data set's files (default: $NTKLENS_DATA, then the download cache).",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Use only these classes, by name or index, such as Pullover,Coat or 0,1 (a name comes before an index).",
    ),
]
Outputs = Annotated[
    str | None,
    typer.Option(
        "--outputs",
        help="For a given network with more outputs than there are classes: the output of each class, in the order of the "
        "classes, such as 3,5. Not needed where it has one for each class of the whole data set.",
    ),
]
Train = Annotated[int | None, typer.Option("--train", help="Use only this many training images, the first ones.")]
Test = Annotated[int | None, typer.Option("--test", help="Use only this many test images, the first ones.")]
Size = Annotated[
    int | None,
    typer.Option(
        "--size",
        help="Resize all images to this many pixels on each side, by Pillow's bilinear filter; mixed modes become RGB.",
    ),
]
Grey = Annotated[bool, typer.Option("--grey", help="Convert all images to grey (ITU-R 601-2 luma).")]
Rgb = Annotated[bool, typer.Option("--rgb", help="Convert all images to RGB.")]
Architecture = Annotated[
    str,
    typer.Option(
        "--arch",
        help="Network: a name such as fc1, fc3, conv2, conv4-gap, myrtle5 or small-cnn; your own as file.py:factory; or a "
        "saved kernel machine (.safetensors).",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="File with the weights of --arch file.py:factory: .safetensors, .pt, .pth, .ckpt (Lightning), .bin, or the "
        ".index.json of several.",
    ),
]
KernelKind = Annotated[
    str,
    typer.Option(
        "--kernel",
        help="Kernel of the network: analytic (of infinite width; weights do not matter) or empirical (the tangent kernel "
        "of the network with the weights of its file, or with initial ones drawn from the seed).",
    ),
]
WStd = Annotated[float, typer.Option("--w-std", help="Standard deviation of the weights (w_std of the kernel).")]
BStd = Annotated[float, typer.Option("--b-std", help="Standard deviation of the biases (b_std of the kernel).")]
Ridge = Annotated[
    float,
    typer.Option("--ridge", help="Ridge added to the kernel matrix; 0 is a kernel machine trained for infinite time."),
]
FlowTime = Annotated[
    float | None,
    typer.Option(
        "--time", help="Stop the training at this time of gradient flow, t (default: trained for infinite time)."
    ),
]
Eps = Annotated[
    str,
    typer.Option("--eps", help="Radius ε of the attacks, for pixels in [0, 1], such as 8/255 or 0.03."),
]
Norm = Annotated[str, typer.Option("--norm", help="Norm that measures the radius: linf or l2.")]
Steps = Annotated[int, typer.Option("--steps", help="Number of steps of projected gradient descent (PGD).")]
Loss = Annotated[str, typer.Option("--loss", help="Loss that the attacks increase: cross-entropy, margin or dlr.")]
Sample = Annotated[
    int, typer.Option("--sample", help="Number of training images that a surrogate is fitted or trained on.")
]
Width = Annotated[
    int, typer.Option("--width", help="Hidden units, or channels, in each layer of the networks that are trained.")
]
Epochs = Annotated[int, typer.Option("--epochs", help="Epochs of each training run.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all random numbers; the same seed gives the same result.")]
Device = Annotated[str, typer.Option("--device", help="Device that computes: cpu or cuda.")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write the run to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run in the folder of --out.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in the folder of --out.")]
Network = Annotated[
    str,
    typer.Argument(
        metavar="[NETWORK]",
        help="Network whose kernel is taken: a name such as fc1 (the default), fc3 or conv2; your own as file.py:factory; "
        "or a saved kernel machine (.safetensors), for its kernel.",
    ),
]
Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Keep the kernel matrix in this folder on disk, for one that is larger than memory; the same command "
        "continues what was interrupted.",
    ),
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        help="Memory that a matrix in a --store or on a cluster may take in this process, such as 4GB (default: 1 GiB).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output, for programs.")]


def number(text: str, option: str) -> float:
    """Return the value of a number, or of a fraction such as 8/255.

    Raises:
        InputError: neither of these.
    """
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise InputError(f'{option}: expected a number or a fraction such as 8/255; got "{text}".') from None


def names(text: str) -> list[str]:
    """Return names that are separated by commas; spaces around them and empty ones are dropped."""
    return [name.strip() for name in text.split(",") if name.strip()]


def whole_numbers(text: str, option: str, *, least: int = 0) -> list[int]:
    """Return whole numbers that are separated by commas.

    Raises:
        InputError: no value, one that is not a whole number, or one below `least`.
    """
    values = names(text)
    if not values or not all(value.isdecimal() and int(value) >= least for value in values):
        raise InputError(f'{option}: expected whole numbers from {least}, separated by commas; got "{text}".')
    return [int(value) for value in values]


def data_part(
    name: str | None,
    data_dir: Path | None,
    classes: str | None,
    train: int | None,
    test: int | None,
    size: int | None = None,
    grey: bool = False,
    rgb: bool = False,
    outputs: str | None = None,
) -> dict[str, Any]:
    """Return the `data` part of a Spec without the options that the user has left out.

    Classes stay texts: only the data set knows whether a number is the name of a class or its index.

    Raises:
        InputError: `grey` and `rgb` together.
    """
    if grey and rgb:
        raise InputError("--grey and --rgb exclude each other; give one of them.")
    options = {
        "name": name,
        "data_dir": data_dir,
        "classes": None if classes is None else names(classes),
        "train": train,
        "test": test,
        "size": size,
        "outputs": None if outputs is None else whole_numbers(outputs, "--outputs"),
        "mode": "grey" if grey else "rgb" if rgb else None,
    }
    return {key: value for key, value in options.items() if value is not None}


def kernel_part(w_std: float, b_std: float, ridge: float, kind: str = "analytic") -> dict[str, Any]:
    """Return the `kernel` part of a Spec without its network."""
    return {"w_std": w_std, "b_std": b_std, "ridge": ridge, "kind": kind}


_UNITS = {
    "": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


def size(text: str, option: str) -> int:
    """Return a number of bytes that is written as 4GB, 500 MB or 2GiB.

    Raises:
        InputError: none of these.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    if found is None or found[2] not in _UNITS or not float(found[1]) > 0:
        raise InputError(f'{option}: expected a size such as 4GB, 500MB or 2GiB; got "{text}".')
    return max(1, round(float(found[1]) * _UNITS[found[2]]))
