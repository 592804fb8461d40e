"""Transfer of adversarial images: surrogates, victims, and who is fooled by whom."""

from ntklens.transfer.matrix import Transfer, score, transfer_matrix
from ntklens.transfer.surrogates import Surrogate, Training, check_surrogate, surrogate
from ntklens.transfer.time import MatchedTime, gradient_cosine, match_time

__all__ = [
    "MatchedTime",
    "Surrogate",
    "Training",
    "Transfer",
    "check_surrogate",
    "gradient_cosine",
    "match_time",
    "score",
    "surrogate",
    "transfer_matrix",
]
