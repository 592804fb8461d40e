"""Transfer of adversarial images: surrogates, victims, and who is fooled by whom."""

from ntklens.transfer.matrix import Transfer, score, transfer_matrix
from ntklens.transfer.surrogates import Surrogate, Training, check_surrogate, surrogate
from ntklens.transfer.time import MatchedTime, SearchedTime, gradient_cosine, match_time, search_time

__all__ = [
    "MatchedTime",
    "SearchedTime",
    "Surrogate",
    "Training",
    "Transfer",
    "check_surrogate",
    "gradient_cosine",
    "match_time",
    "score",
    "search_time",
    "surrogate",
    "transfer_matrix",
]
