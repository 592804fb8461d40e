"""Whether two kernels' features are the same functions, by their outputs at images that neither was fitted on.

Eigenvectors live on the training images; the features that they stand for are functions, and these are compared where it
counts. Two things would make a plain comparison of the i-th with the i-th feature say too little or too much:

- Where eigenvalues lie close together, an eigenvector is determined up to a rotation with its neighbours only. So features
  are compared as eigenspaces: pairs are matched on the training images, and pairs that are neighbours on either side are
  merged.
- Any two kernels that prefer smooth functions share some of their first features. So chance is not a random basis of all
  functions on the images, which hardly ever agrees with anything, but features with the same spectrum that are arranged in
  it at random (`random_features`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.arguments import as_count, as_floats, as_images, check_generator
from ntklens.errors import InputError
from ntklens.features.consistency import match
from ntklens.features.eigenfeatures import NTKFeatures, check_features
from ntklens.statistics import Estimate

_GAP = 0.05
"""Neighbouring eigenvalues that differ by less than this share of the larger one count as one eigenspace.

Among n images an eigenvalue varies by about √(2/n) of itself: 5 % for 800.
"""
_RESAMPLES = 400
_JITTER = 1e-10
"""Added to the diagonal of Gram matrices, relative to their mean, against outputs that are linearly dependent."""

Spaces = list[tuple[list[int], list[int]]]
"""Places in the spectrum of one kernel, and as many in that of the other, that are compared as subspaces."""


def feature_outputs(features: NTKFeatures, x: Float[Tensor, "m *shape"], count: int) -> Float[Tensor, "m k"]:
    """Compute the scalars Θ(x, X) v_i / λ_i of the first features, by which they act on images, in double precision.

    Args:
        features: of a machine.
        x: images.
        count: number k of first features.
    """
    check_features(features)
    if as_count(count, "count") > len(features):
        raise InputError(f"expected count from 1 to {len(features)}, the number of features; got {count}.")
    x = features.machine.checked(as_images(x))
    vectors = features.eigenvectors[:, :count] / features.eigenvalues[:count]
    with torch.no_grad():
        return features.machine.expand(vectors, torch.float64)(x.to(torch.float64)).to(torch.float64)


def common_spaces(
    a: Float[Tensor, "n k"],
    b: Float[Tensor, "n k"],
    a_values: Float[Tensor, " k"],
    b_values: Float[Tensor, " k"],
) -> Spaces:
    """Match the first features of two kernels by their eigenvectors, and merge pairs that are neighbours on either side.

    Args:
        a: eigenvectors of one kernel on the training images, as columns.
        b: eigenvectors of the other one on the same images.
        a_values: eigenvalues of a, in descending order.
        b_values: eigenvalues of b, in descending order.

    Returns:
        For each space its places in a and, equally many, in b.
    """
    partners = match(a, b)[0].tolist()
    place_of = {partner: i for i, partner in enumerate(partners)}
    space_of = list(range(len(partners)))  # by place in a

    def merge(i: int, j: int) -> None:
        old, new = space_of[i], space_of[j]
        space_of[:] = [new if space == old else space for space in space_of]

    for values, place in ((a_values, range(len(partners))), (b_values, place_of)):
        for i, (larger, smaller) in enumerate(zip(values.tolist(), values[1:].tolist(), strict=False)):
            if larger - smaller < _GAP * larger:
                merge(place[i], place[i + 1])
    spaces = [[i for i, space in enumerate(space_of) if space == name] for name in dict.fromkeys(space_of)]
    return [(places, sorted(partners[i] for i in places)) for places in spaces]


def output_cosine(
    a: Float[Tensor, "m k"], b: Float[Tensor, "m k"], spaces: Spaces, counts: Float[Tensor, "r m"] | None = None
) -> Float[Tensor, " r"]:
    """Compute the mean cosine between two kernels' features by their outputs at m images.

    For a space of one feature on each side it is |cos(a_i, b_j)|, for larger ones the mean cosine of the principal angles
    between the spans of the outputs (Björck & Golub 1973). The mean is over features.

    Args:
        a: outputs of the features of one kernel.
        b: outputs of those of the other one.
        spaces: as of `common_spaces`.
        counts: how often each image counts, one row per evaluation; once each by default.
    """
    counts = torch.ones(1, len(a), dtype=a.dtype, device=a.device) if counts is None else counts.to(a)
    total = torch.zeros(len(counts), dtype=a.dtype, device=a.device)
    for of_a, of_b in spaces:
        both = torch.cat([a[:, of_a], b[:, of_b]], 1)
        gram = torch.einsum("rm,mi,mj->rij", counts, both, both)
        d = len(of_a)
        # With Cholesky factors L of the spans' own Gram matrices, the cosines are singular values of L_a⁻¹ G_ab L_b⁻ᵀ.
        left, right = _cholesky(gram[:, :d, :d]), _cholesky(gram[:, d:, d:])
        middle = torch.linalg.solve_triangular(left, gram[:, :d, d:], upper=False)
        middle = torch.linalg.solve_triangular(right, middle.mT, upper=False)
        total += torch.linalg.svdvals(middle).clamp(max=1.0).sum(1)
    return total / a.shape[1]


def _cholesky(gram: Tensor) -> Tensor:
    scale = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(gram.dtype).tiny)
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    factor: Tensor = torch.linalg.cholesky(gram + _JITTER * scale[:, None, None] * eye)
    return factor


def output_agreement(
    a: Float[Tensor, "m k"], b: Float[Tensor, "m k"], spaces: Spaces, generator: torch.Generator
) -> Estimate:
    """Return `output_cosine` with its 95 % interval over the images: the basic bootstrap, mirrored at the estimate.

    A resample repeats images, and with fewer different ones small cosines come out larger. The basic interval takes as
    much off the estimate as resampling has added (Davison & Hinkley 1997, section 5.2); percentiles would add it again.

    Args:
        a: outputs of the features of one kernel.
        b: outputs of those of the other one.
        spaces: as of `common_spaces`.
        generator: source of the resamples.
    """
    a, b = as_floats(a, "a"), as_floats(b, "b")
    if a.ndim != 2 or a.shape != b.shape or len(a) <= a.shape[1]:
        raise InputError(
            f"expected a and b as outputs (m, k) at more images than features; got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    check_generator(generator)
    m = len(a)
    drawn = torch.randint(m, (_RESAMPLES, m), generator=generator)
    counts = torch.zeros(_RESAMPLES, m, dtype=torch.float64)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    found = float(output_cosine(a, b, spaces))
    low, high = 2 * found - np.quantile(output_cosine(a, b, spaces, counts).cpu().numpy(), [0.975, 0.025])
    return Estimate(found, min(float(low), found), min(max(float(high), found), 1.0), m)


def random_features(eigenvalues: Float[Tensor, " n"], k: int, generator: torch.Generator) -> Float[Tensor, "n k"]:
    """Draw k features with a given spectrum that are arranged in it at random, by their coefficients on the eigenvectors.

    They are random functions of the Gaussian process whose covariance is the kernel, made orthonormal one after the other:
    the Q of Λ^½ Ξ with a Gaussian Ξ. So they lie among the large eigenvalues as often as the spectrum says, like the
    features of another kernel that prefers the same smoothness, and owe nothing else to the images.

    Args:
        eigenvalues: of the kernel matrix, in descending order; negative ones count as zero.
        k: number of features.
        generator: source of the draw.
    """
    check_generator(generator)
    scale = as_floats(eigenvalues, "eigenvalues").to(torch.float64).clamp(min=0).sqrt()
    if as_count(k, "k") > len(scale):
        raise InputError(f"expected k from 1 to {len(scale)}, the number of eigenvalues; got {k}.")
    drawn = torch.randn(len(scale), k, generator=generator, dtype=torch.float64)
    coefficients: Tensor = torch.linalg.qr(scale.cpu()[:, None] * drawn)[0]
    return coefficients.to(scale.device)


def chance_of_outputs(
    outputs: Float[Tensor, "m n"],
    eigenvalues: Float[Tensor, " n"],
    other_values: Float[Tensor, " k"],
    draws: int,
    generator: torch.Generator,
) -> Sequence[float]:
    """Draw what `output_cosine` gives for `random_features` in the place of another kernel's: one number per draw.

    Args:
        outputs: of all features of the first kernel at m images.
        eigenvalues: of the first kernel.
        other_values: first k eigenvalues of the other kernel.
        draws: number of draws.
        generator: source of the draws.
    """
    k = len(other_values)
    first = torch.eye(len(eigenvalues), k, dtype=torch.float64, device=outputs.device)
    values = []
    for _ in range(as_count(draws, "draws")):
        drawn = random_features(eigenvalues, k, generator).to(outputs)
        spaces = common_spaces(first, drawn, eigenvalues[:k], other_values)
        values.append(float(output_cosine(outputs[:, :k], outputs @ drawn, spaces)))
    return values
