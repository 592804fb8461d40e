"""Transfer of adversarial images: make them on a surrogate, see which victims they fool.

The modules, in the order to read them:

- `names`: how surrogates are named.
- `surrogates`: models by name, "ntk:fc3" or "net:small-cnn", fitted or trained on samples of the data, and images made on
  them.
- `scores`: how a victim does on those images, by two definitions of success.
- `time`: a kernel machine has a training time; which one makes it resemble a given victim, by outputs or by effect; and
  how alike the input gradients of two models are.
"""

from ntklens.transfer.names import SurrogateName, check_surrogate, check_weights_matter, surrogate_name
from ntklens.transfer.scores import CLEAN, TransferScore, transfer_scores
from ntklens.transfer.surrogates import Surrogate, TrainingRecipe, network_kernel, surrogate, tangent_network
from ntklens.transfer.time import (
    CROSS_ENTROPY_TIMES,
    MatchedTime,
    SearchedTime,
    gradient_cosine,
    match_time,
    search_time,
)

__all__ = [
    "CLEAN",
    "CROSS_ENTROPY_TIMES",
    "MatchedTime",
    "SearchedTime",
    "Surrogate",
    "SurrogateName",
    "TrainingRecipe",
    "TransferScore",
    "check_surrogate",
    "check_weights_matter",
    "gradient_cosine",
    "match_time",
    "network_kernel",
    "search_time",
    "surrogate",
    "surrogate_name",
    "tangent_network",
    "transfer_scores",
]
