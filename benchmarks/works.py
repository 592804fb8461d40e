"""The rows of `python -m benchmarks`: kernels and gradients by network, activation and number of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A kernel matrix or an input gradient. Its fields travel as JSON to the processes that measure it.

    Attributes:
        name: the word by which the row is chosen.
        title: what the table calls it.
        network: as `benchmarks.common.network` takes it.
        activation: likewise.
        n1: the peer's number of images x.
        n2: the peer's number of images z; None for the symmetric matrix of x.
        ours: our numbers of images, where the peer's time per pair allows it only a few; None for the same as the peer's.
        d: inputs of a dense network; None for images of 32 x 32 x 3.
        gradient: whether it is the gradient in x of a weighted sum of the kernel.
        b_std: of all layers.
        large: numbers of images of a larger call of ours, beside which the time per pair is told.
        eight_bit: whether our images have pixels as in files, whole numbers over 255; the peer takes any as fast.
    """

    name: str
    title: str
    network: str
    activation: str
    n1: int
    n2: int | None
    ours: tuple[int, int | None] | None = None
    d: int | None = None
    gradient: bool = False
    b_std: float = 0.1
    large: tuple[int, int] | None = None
    eight_bit: bool = False


def _rows() -> Iterator[Work]:
    """Yield all rows: ReLU first, then the other activations."""
    yield Work("fc3-relu", "FC-3 ReLU, n = 4000, d = 3072", "fc3", "relu", 4000, None, d=3072)
    yield Work("fc10-relu", "FC-10 ReLU, n = 4000, d = 784", "fc10", "relu", 4000, None, d=784)
    yield Work("fc10-relu-no-bias", "the same without biases", "fc10", "relu", 4000, None, d=784, b_std=0.0)
    title = "FC-3 ReLU gradient, 256 x 4000, d = 3072"
    yield Work("fc3-relu-gradient", title, "fc3", "relu", 256, 4000, d=3072, gradient=True)
    name, title = "fc3-relu-gradient-8-bit", f"{title}, 8 bit"
    yield Work(name, title, "fc3", "relu", 256, 4000, d=3072, gradient=True, eight_bit=True)
    yield Work("conv5-relu", "5 conv ReLU, flatten", "conv5", "relu", 24, 24, (256, 1024))
    title = "5 conv ReLU, flatten, gradient"
    yield Work("conv5-relu-gradient", title, "conv5", "relu", 24, 24, (128, 1024), gradient=True)
    name = "conv5-relu-gradient-small"
    yield Work(name, f"{title}, 32 x 64", "conv5", "relu", 24, 24, (32, 64), gradient=True)
    title = "4 conv ReLU, global pooling"
    yield Work("gap4-relu", title, "gap4", "relu", 2, 2, (4, 64))
    yield Work("gap4-relu-16", f"{title}, 16 x 16", "gap4", "relu", 2, 2, (16, 16), large=(32, 32))
    yield Work("gap4-relu-4", f"{title}, 4 x 4", "gap4", "relu", 2, 2, (4, 4), large=(32, 32))
    yield Work("gap4-relu-gradient", f"{title}, gradient", "gap4", "relu", 2, 2, (4, 64), gradient=True)
    title = f"{title}, gradient, 4 x 4"
    yield Work("gap4-relu-gradient-4", title, "gap4", "relu", 2, 2, (4, 4), gradient=True, large=(32, 32))
    yield Work("myrtle5-relu", "Myrtle-5 ReLU", "myrtle5", "relu", 2, 2, (4, 64))
    for activation, word in (("erf", "erf"), ("gelu", "GELU")):
        title = f"FC-3 {word}, n = 4000, d = 784"
        yield Work(f"fc3-{activation}", title, "fc3", activation, 4000, None, d=784)
        title = f"FC-3 {word} gradient, 256 x 4000, d = 784"
        yield Work(f"fc3-{activation}-gradient", title, "fc3", activation, 256, 4000, d=784, gradient=True)
        name, title = f"fc3-{activation}-gradient-8-bit", f"{title}, 8 bit"
        yield Work(name, title, "fc3", activation, 256, 4000, d=784, gradient=True, eight_bit=True)
    for activation, word in (("erf", "erf"), ("gelu", "GELU"), ("silu", "SiLU")):
        # The peer has SiLU by a quadrature of 25 x 25 points for each pair of positions, for which it needs the memory.
        n = 4 if activation == "silu" else 24
        name, title = f"conv5-{activation}", f"5 conv {word}, flatten"
        yield Work(name, title, "conv5", activation, n, n, (256, 1024))
        yield Work(f"{name}-gradient", f"{title}, gradient", "conv5", activation, n, n, (128, 1024), gradient=True)
    for activation, word in (("erf", "erf"), ("gelu", "GELU")):
        name, title = f"gap4-{activation}", f"4 conv {word}, global pooling"
        yield Work(name, title, "gap4", activation, 2, 2, (4, 64))
        yield Work(f"{name}-gradient", f"{title}, gradient", "gap4", activation, 2, 2, (4, 64), gradient=True)


WORKS = tuple(_rows())


def chosen(words: Sequence[str]) -> list[Work]:
    """Return the rows of these names, or those whose names contain a word; all rows for no words.

    Raises:
        ValueError: a word that is in no row's name.
    """
    selected: set[str] = set()
    for word in words:
        names = [work.name for work in WORKS if word in work.name]
        if not names:
            raise ValueError(f"expected names of rows, or parts of them; got {word!r}. `--list` prints all names.")
        selected.update([word] if word in names else names)
    return [work for work in WORKS if work.name in selected or not words]
