"""Finite networks: named architectures, parametrisation, linearisation, training."""

from ntklens.networks.architectures import architecture_names, build
from ntklens.networks.linearize import Linearized, linearize
from ntklens.networks.load import load_network
from ntklens.networks.outputs import BinaryLogits, Centred
from ntklens.networks.parametrize import ntk_parametrize
from ntklens.networks.training import gradient_descent, train

__all__ = [
    "BinaryLogits",
    "Centred",
    "Linearized",
    "architecture_names",
    "build",
    "gradient_descent",
    "linearize",
    "load_network",
    "ntk_parametrize",
    "train",
]
