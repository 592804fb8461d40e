"""Transfer of adversarial images: surrogates, victims, and who is fooled by whom."""

from ntklens.transfer.matrix import Transfer, score, transfer_matrix
from ntklens.transfer.surrogates import Surrogate, Training, check_surrogate, surrogate

__all__ = ["Surrogate", "Training", "Transfer", "check_surrogate", "score", "surrogate", "transfer_matrix"]
