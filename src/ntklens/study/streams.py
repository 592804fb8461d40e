"""The random streams of an experiment: each purpose draws from a generator that no other purpose uses.

So a stage gives the same numbers whether or not other stages run before it. The numbers are part of every result: a changed
number changes the results of its stage.
"""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """The first number of a stream, as `Context.generator` takes it."""

    CHANCE_OVERLAP = 5
    """Random subspaces, whose overlap is what chance gives."""
    CHANCE_MATCH = 6
    """Random subspaces, whose matched vectors are what chance gives."""
    CHANCE_PICTURES = 7
    """Random rotations of pictures; the second number is that of the draw."""
    ROBUST_NETWORK = 8
    """Networks that are trained on projected data; the second number is their seed."""
    RANDOM_PROJECTION = 9
    """Random data sets; the second number is their rank, the third their seed."""
    TRAINING = 11
    """Batches of the trainings whose kernel is measured; the second number is their seed."""
    LINEARISED_TRAINING = 12
    """Batches of the linearised trainings; the second number is their seed, the third their first epoch."""
    SQUARE = 15
    """The Square attack in the worst case of trainings and machines."""
    CHANCE_OUTPUTS = 17
    """Resamples of test images, and random features, beside the outputs of another kernel's; the second number is its."""
    CERTIFIED = 18
    """The test images that are certified."""
    HALVES = 16
    """Halves of the test images: one chooses features, the other scores the choice."""
    NOISE = 77
    """Random signs."""
    TRANSFER = 78
    """Attacks on surrogates."""
    VICTIM = 79
    """The attack on the user's network, and its self-checks."""


class NetworkStream(IntEnum):
    """The third number of the streams of a network of the kernel's architecture.

    Their first two numbers are its width and its seed; without a third one, the stream draws the weights of the NTK
    parametrisation.
    """

    TORCH_WEIGHTS = 5
    """The weights in torch's own parametrisation."""
    BATCHES = 6
    """Batches of the training by SGD."""
