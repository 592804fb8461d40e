"""Finite networks: named architectures, parametrisation, linearisation, training, and networks from files."""

from ntklens.networks.architectures import architecture_names, build, is_architecture
from ntklens.networks.linearize import Linearized, linearize
from ntklens.networks.load import load_network
from ntklens.networks.outputs import BinaryLogits, Centred, ClassOutputs, OrderedOutputs, with_logits
from ntklens.networks.parametrize import ntk_parametrize
from ntklens.networks.seeded import seeded_network
from ntklens.networks.source import NetworkSource, labels, network_source
from ntklens.networks.state import STATE_SUFFIXES, epoch_of, is_saved_by_lightning, is_weights_file, load_state
from ntklens.networks.training import gradient_descent, train

__all__ = [
    "STATE_SUFFIXES",
    "BinaryLogits",
    "Centred",
    "ClassOutputs",
    "Linearized",
    "NetworkSource",
    "OrderedOutputs",
    "architecture_names",
    "build",
    "epoch_of",
    "gradient_descent",
    "is_architecture",
    "is_saved_by_lightning",
    "is_weights_file",
    "labels",
    "linearize",
    "load_network",
    "load_state",
    "network_source",
    "ntk_parametrize",
    "seeded_network",
    "train",
    "with_logits",
]
