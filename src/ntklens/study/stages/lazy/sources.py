"""The sources of images that networks are shown in the width study."""

CLEAN = "clean"
NOISE = "noise"
KERNEL_INFINITE = "kernel t=inf"
"""One step on the kernel machine at t = ∞."""
KERNEL_MATCHED = "kernel matched time"
"""One step on the kernel machine that was trained for as long as the networks."""
SURROGATE = "trained surrogate"
"""One step on a network of the same width that was trained from another seed."""
WHITE_BOX = "white-box"
"""One step on the attacked network."""

COMPARISONS = (
    (NOISE, KERNEL_MATCHED),
    (NOISE, KERNEL_INFINITE),
    (KERNEL_MATCHED, WHITE_BOX),
    (SURROGATE, WHITE_BOX),
)
"""Pairs of sources whose accuracies are compared: what a source fools beyond noise, and short of the white box."""
