"""Options that several commands share, and what they make of a Spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Data = Annotated[str, typer.Option("--data", help="A data set's name, an .npz file, or a folder of images.")]
OtherData = Annotated[str | None, typer.Option("--data", help="Another data set: a name, an .npz file, or a folder.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder that holds the data set's files.")]
Classes = Annotated[str | None, typer.Option("--classes", help="Keep these classes, as in 0,1 or Pullover,Coat.")]
Train = Annotated[int | None, typer.Option("--train", help="Keep the first so many training images.")]
Test = Annotated[int | None, typer.Option("--test", help="Keep the first so many test images.")]
Architecture = Annotated[str, typer.Option("--arch", help="fc1, fc3, conv2, conv4-gap, myrtle5, ...")]
WStd = Annotated[float, typer.Option("--w-std", help="Standard deviation of the weights.")]
BStd = Annotated[float, typer.Option("--b-std", help="Standard deviation of the biases.")]
Ridge = Annotated[float, typer.Option("--ridge", help="Ridge of the kernel machine; 0 trains for ever.")]
Eps = Annotated[str, typer.Option("--eps", help="Radius in pixel units, as in 8/255 or 0.03.")]
Norm = Annotated[str, typer.Option("--norm", help="linf or l2.")]
Steps = Annotated[int, typer.Option("--steps", help="Steps of PGD.")]
Sample = Annotated[int, typer.Option("--sample", help="Training images that the surrogate may see.")]
Loss = Annotated[str, typer.Option("--loss", help="What the attack ascends: cross-entropy, margin or dlr.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the run.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing run in that folder.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in that folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]


def number(text: str, name: str) -> float:
    """A number, or a fraction such as 8/255."""
    top, slash, bottom = text.partition("/")
    try:
        return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f'a number or a fraction such as 8/255 was expected; "{text}" came.', None, None, name
        ) from None


def class_list(text: str | None) -> list[int | str] | None:
    """Comma-separated class indices or names."""
    if text is None:
        return None
    return [int(part) if part.strip().isdigit() else part.strip() for part in text.split(",")]


def names(text: str) -> list[str]:
    """Comma-separated names."""
    return [part.strip() for part in text.split(",") if part.strip()]


def common(
    *,
    data: str,
    data_dir: Path | None,
    classes: str | None,
    train: int | None,
    test: int | None,
    architecture: str,
    w_std: float,
    b_std: float,
    ridge: float,
    seed: int,
    device: str,
) -> dict[str, Any]:
    """The parts of a Spec that every experiment has."""
    return {
        "seed": seed,
        "device": device,
        "data": {"name": data, "data_dir": data_dir, "classes": class_list(classes), "train": train, "test": test},
        "kernel": {"architecture": architecture, "w_std": w_std, "b_std": b_std, "ridge": ridge},
    }
