"""NTK features: the eigendecomposition of a kernel machine, measured and pictured."""

from ntklens.features.consistency import picture_cosine, random_overlap, subspace_overlap
from ntklens.features.eigenfeatures import NTKFeatures, eigenfeatures, linear_robust_radius
from ntklens.features.scores import FeatureScores, above_majority, categories
from ntklens.features.under_attack import Outcomes, Threat

__all__ = [
    "FeatureScores",
    "NTKFeatures",
    "Outcomes",
    "Threat",
    "above_majority",
    "categories",
    "eigenfeatures",
    "linear_robust_radius",
    "picture_cosine",
    "random_overlap",
    "subspace_overlap",
]
