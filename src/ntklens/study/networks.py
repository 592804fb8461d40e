"""Networks of the user in an experiment: loaded once, with one logit per class, on the images of the experiment."""

from __future__ import annotations

from torch import nn

from ntklens.errors import InputError
from ntklens.kernels import AnalyticKernel
from ntklens.kernels.base import Kernel
from ntklens.machine import KernelMachine
from ntklens.networks import NetworkSource, labels, network_source, with_logits
from ntklens.study.class_outputs import class_outputs
from ntklens.study.context import Context
from ntklens.study.spec import TransferSpec
from ntklens.transfer import SurrogateName

_SHOWN = 100
"""Number of test images that a network is shown before it is used."""


def given_network(context: Context, source: NetworkSource) -> nn.Module:
    """Return a network, or a kernel machine, with the weights that it brings, and with one logit per class.

    Raises:
        InputError: it does not load, does not take the images, or has fewer outputs than the data have classes.
    """
    network: nn.Module
    if source.kind == "machine":
        network = KernelMachine.load(source.text)
    else:
        network = source.build(context.data.shape, len(context.data.classes), seed=context.spec.seed)
    return _with_logits(context, source, network.to(context.spec.device))


def named_surrogates(context: Context, spec: TransferSpec) -> dict[str, SurrogateName]:
    """Return the surrogates of a transfer study by their names for tables, each once."""
    surrogates = list(dict.fromkeys(map(context.surrogate, spec.surrogates)))
    names = _names(spec, surrogates)
    return {surrogate.label(names): surrogate for surrogate in surrogates}


def named_victims(context: Context, spec: TransferSpec) -> dict[NetworkSource, str]:
    """Return the victims of a transfer study with their names for tables, each once."""
    names = _names(spec, list(map(context.surrogate, spec.surrogates)))
    return {source: names[source] for source in map(network_source, spec.victims)}


def _names(spec: TransferSpec, surrogates: list[SurrogateName]) -> dict[NetworkSource, str]:
    networks = [surrogate.network for surrogate in surrogates if surrogate.network is not None]
    return labels([*map(network_source, spec.victims), *networks])


def initial_network(
    context: Context, source: NetworkSource, seed: int, *, width: int, outputs: int | None = None
) -> nn.Module:
    """Return a network to train, in torch's own parametrisation.

    Args:
        context: of the experiment.
        source: the network.
        seed: of its initial weights.
        width: hidden units or channels of an architecture.
        outputs: number of outputs of an architecture; one per class by default.

    Raises:
        InputError: as of `given_network`, or a saved program or machine, which cannot be trained.
    """
    if source.kind in ("program", "machine"):
        raise InputError(
            f"expected a network that can be trained, as fc3 or file.py:factory; got {source.text}, a saved {source.kind}."
        )
    classes = len(context.data.classes)
    network = source.build(context.data.shape, outputs or classes, width=width, seed=seed).to(context.spec.device)
    if source.kind == "architecture":
        return network
    return _with_logits(context, source, network, is_trained=source.weights is not None)


def _with_logits(context: Context, source: NetworkSource, network: nn.Module, *, is_trained: bool = True) -> nn.Module:
    # The outputs of a network that is trained on the data's classes become what they are taken for.
    order = class_outputs(context, "the network") if is_trained else None
    try:
        return with_logits(network, context.test[0][:_SHOWN], len(context.data.classes), order)
    except InputError as error:
        raise InputError(f"{source.label}: {error}") from error


def check_kernel(context: Context, source: NetworkSource) -> None:
    """Take the kernel of two images; an analytic one is traced for their shape."""
    if source == context.network and source.kind == "machine":
        _ = context.machine
        return
    _check(context, context.kernel(source))


def check_surrogate(context: Context, surrogate: SurrogateName) -> None:
    """Raise InputError, before a run is made, for a surrogate whose network does not load or does not take the images."""
    source = surrogate.network
    if source is None:
        return
    if source.is_trained and (surrogate.kind == "net" or source.kind == "machine"):
        given_network(context, source)
    elif surrogate.kind == "net":
        initial_network(context, source, 0, width=1)
    else:
        _check(context, context.kernel_of(surrogate))


def _check(context: Context, kernel: Kernel) -> None:
    if isinstance(kernel, AnalyticKernel):
        kernel.graph(context.data.shape)
    else:
        kernel(context.train[0][:2])


def check_transfer(context: Context, spec: TransferSpec) -> None:
    """Raise InputError, before a run is made, for a surrogate or a victim that does not fit the images."""
    for name in spec.surrogates:
        check_surrogate(context, context.surrogate(name))
    for source in map(network_source, spec.victims):
        if source.draws_its_weights():
            initial_network(context, source, 0, width=1)
        else:
            given_network(context, source)
