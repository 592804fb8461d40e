"""NTK features: the eigendecomposition of a kernel machine, measured and pictured."""

from ntklens.attacks import Threat
from ntklens.features.consistency import (
    match,
    picture_cosine,
    principal_cosines,
    random_match,
    random_overlap,
    scalar_pictures,
    subspace_overlap,
)
from ntklens.features.eigenfeatures import NTKFeatures, eigenfeatures, linear_robust_radius
from ntklens.features.learned import half_learned, over_bands, predicted_share, share_learned
from ntklens.features.robust_data import ProjectedData, random_dataset, robust_dataset
from ntklens.features.scores import (
    FRAGILE,
    PARTLY,
    ROBUST,
    UNSCORED,
    USELESS,
    FeatureScores,
    above_majority,
    categories,
)
from ntklens.features.subsets import attribution, bands, class_shares, subsets
from ntklens.features.under_attack import Outcomes

__all__ = [
    "FRAGILE",
    "PARTLY",
    "ROBUST",
    "UNSCORED",
    "USELESS",
    "FeatureScores",
    "NTKFeatures",
    "Outcomes",
    "ProjectedData",
    "Threat",
    "above_majority",
    "attribution",
    "bands",
    "categories",
    "class_shares",
    "eigenfeatures",
    "half_learned",
    "linear_robust_radius",
    "match",
    "over_bands",
    "picture_cosine",
    "predicted_share",
    "principal_cosines",
    "random_dataset",
    "random_match",
    "random_overlap",
    "robust_dataset",
    "scalar_pictures",
    "share_learned",
    "subsets",
    "subspace_overlap",
]
