"""NTK features: a kernel machine taken apart along the eigenvectors of its kernel matrix (Tsilivis & Kempe 2022).

The machine at t = ∞ is a sum of features, one predictor per eigenvector. This package measures how useful and how robust
each of them is, and what follows. The modules, in the order to read them:

- `eigenfeatures`: the features, their outputs, accuracies and input gradients.
- `under_attack`: every feature attacked at every image, all of them at once.
- `proved`: every feature certified at every image, the lower end of its robustness.
- `scores`: accuracies with intervals, and the categories robust, partly robust, non-robust, not useful.
- `subsets`: sets of features by category and by bands of the spectrum, and what of the labels they carry.
- `head_tail`: the first features, as many as half of the images choose, and all the rest.
- `learned`: which features a network, or a machine at some time, has learned.
- `consistency`: whether the kernels of two architectures have the same features.
- `held_out`: whether they are the same functions, by their outputs at images that neither was fitted on.
- `robust_data`: a training set that keeps chosen features only.
- `shortcuts`: which features rely on an attribute that is no part of the class.
"""

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
from ntklens.features.head_tail import best_head, halves
from ntklens.features.held_out import (
    chance_of_outputs,
    common_spaces,
    feature_outputs,
    output_agreement,
    output_cosine,
    random_features,
)
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
from ntklens.features.shortcuts import ShortcutAudit, shortcut_audit
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
    "ShortcutAudit",
    "Threat",
    "above_majority",
    "attribution",
    "bands",
    "best_head",
    "categories",
    "chance_of_outputs",
    "class_shares",
    "common_spaces",
    "eigenfeatures",
    "feature_outputs",
    "half_learned",
    "halves",
    "linear_robust_radius",
    "match",
    "output_agreement",
    "output_cosine",
    "over_bands",
    "picture_cosine",
    "predicted_share",
    "principal_cosines",
    "random_dataset",
    "random_features",
    "random_match",
    "random_overlap",
    "robust_dataset",
    "scalar_pictures",
    "share_learned",
    "shortcut_audit",
    "subsets",
    "subspace_overlap",
]
