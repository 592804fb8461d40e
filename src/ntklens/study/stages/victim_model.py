"""The user's own network: loaded, asked whether it takes the images, and known again by its fingerprint."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ntklens.attacks import correct
from ntklens.attacks.model import Model
from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.linalg import Ridge
from ntklens.machine import KernelMachine
from ntklens.machine.file import holds_its_kernel
from ntklens.networks import BinaryLogits, OrderedOutputs, network_source
from ntklens.networks.outputs import check_is_no_probability
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Context
from ntklens.study.spec import VictimSpec

_PROBABILITY_IMAGES = 200
"""Images on which a single output is looked at: a logit of a trained network has both signs on so many."""


def checked_victim(context: Context, spec: VictimSpec) -> nn.Module:
    """Load the user's network and show it two images; it has one logit per class, and those of other classes after them.

    Raises:
        InputError: the network does not load, does not take the images of the experiment, or has fewer outputs than the
            data have classes.
    """
    victim = _loaded(context, spec)
    x, y = context.test
    try:
        with torch.no_grad():
            if len(context.data.classes) == 2 and victim(x[:2]).shape[1:] == (1,):
                with torch.enable_grad():  # by which the last operation is told
                    check_is_no_probability(victim(x[:_PROBABILITY_IMAGES]))
                victim = BinaryLogits(victim).eval()
            outputs = check_number_of_outputs(context, victim, "victim")
            if outputs is not None and (first := class_outputs(context, "the victim")(outputs)) is not None:
                victim = OrderedOutputs(victim, first, outputs).to(x.device).eval()
            start = time.perf_counter()
            correct(victim, x[:2], y[:2])
            # Two images, and six more with which the guard asks whether they depend on one another.
            context.victim_seconds = (time.perf_counter() - start) / 8
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        shape = "x".join(map(str, x.shape[1:]))
        raise InputError(f"the victim does not take images of shape {shape}: {first_line(error)}") from error
    return victim


def _loaded(context: Context, spec: VictimSpec) -> nn.Module:
    """Return the user's network as it is, on the experiment's device."""
    victim: nn.Module
    source = network_source(spec.path, spec.weights)
    if source.kind == "machine":
        # The file has the machine's filter; a ridge that is given has to be its own.
        ridge = context.spec.kernel.ridge
        # So has a kernel that is named; without a name, the file has it, where it does not depend on weights or code.
        is_named = "architecture" in context.spec.kernel.model_fields_set
        kernel = context.kernel() if is_named or not holds_its_kernel(Path(source.text)) else None
        victim = KernelMachine.load(source.text, kernel, Ridge(ridge) if ridge else None)
    else:
        victim = source.build(context.data.shape, len(context.data.classes), seed=context.spec.seed)
    return victim.to(context.spec.device).eval()


def victim_fingerprint(context: Context, spec: VictimSpec) -> dict[str, str]:
    """Return SHA-256 sums that tell whether two runs attacked the same network; it is asked for no output.

    Returns:
        "file": of the file of the network; "weights_file": of the file of its weights, where there is one; "weights": of
        the names, types, shapes and bytes of all tensors of its state, in the order of their names.
    """
    source = network_source(spec.path, spec.weights)
    file = source.text.rpartition(":")[0] if source.kind == "factory" else source.text
    files = {"file": file, "weights_file": source.weights}
    sums = {}
    for name, path in files.items():
        if path is not None and Path(path).is_file():
            with Path(path).open("rb") as stream:
                sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for name, tensor in sorted(_loaded(context, spec).state_dict().items()):
        if not isinstance(tensor, Tensor):  # a module may keep other things beside its tensors
            continue
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sums | {"weights": digest.hexdigest()}


def check_number_of_outputs(context: Context, network: nn.Module, who: str) -> int | None:
    """Return the number of a network's outputs; None where they are no matrix.

    Args:
        context: of the experiment.
        network: images to logits.
        who: what the network is called in the sentence.

    Raises:
        InputError: the network has fewer outputs than the data have classes, whichever of them a batch holds.
    """
    outputs, classes = number_of_outputs(network, context.test[0][:2]), context.data.classes
    if outputs == 1 and len(classes) == 2:
        raise InputError(f"the {who} has one output, f; return the logits of both classes, (-f/2, f/2).")
    if outputs is not None and outputs < len(classes):
        names = ", ".join(map(str, classes[:3])) + (", …" if len(classes) > 3 else "")
        raise InputError(
            f"the {who} has {outputs} output{'s' * (outputs > 1)}, and the data have {len(classes)} classes ({names}). "
            f"Choose the classes that it was trained on, in its order, with --classes ({outputs} of them)."
        )
    return outputs


@torch.no_grad()
def number_of_outputs(network: Model, x: Tensor) -> int | None:
    """Return the number of a network's logits; None where it does not return a matrix."""
    logits = network(x)
    return logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else None
