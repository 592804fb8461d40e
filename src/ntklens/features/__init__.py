"""NTK features: the eigendecomposition of a kernel machine, measured and pictured."""

from ntklens.features.consistency import picture_cosine, random_overlap, subspace_overlap
from ntklens.features.eigenfeatures import (
    FeatureScores,
    NTKFeatures,
    categories,
    eigenfeatures,
    linear_robust_radius,
)

__all__ = [
    "FeatureScores",
    "NTKFeatures",
    "categories",
    "eigenfeatures",
    "linear_robust_radius",
    "picture_cosine",
    "random_overlap",
    "subspace_overlap",
]
