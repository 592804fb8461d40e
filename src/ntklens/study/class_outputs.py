"""Which outputs of a trained network stand for the classes of an experiment."""

from __future__ import annotations

from collections.abc import Callable

from ntklens.errors import InputError
from ntklens.study.context import Context


def class_outputs(context: Context, who: str) -> Callable[[int], tuple[int, ...] | None]:
    """Return the function from a network's number of outputs to the output of each class; None for the same order.

    A network has the outputs of the experiment's classes, or of all classes of the data set of which the experiment has
    some. Of any other network the user says what its outputs are (`DataSpec.outputs`): a guess would score the network on
    other classes than its own.

    Args:
        context: of the experiment.
        who: what the network is called in a sentence.

    Raises:
        InputError: by the function, where the outputs that are given are not there, or none are given and needed.
    """
    data, given = context.data, context.spec.data.outputs
    classes = len(data.classes)

    def first(outputs: int) -> tuple[int, ...] | None:
        if given is not None:
            if len(given) != classes or max(given) >= outputs:
                raise InputError(
                    f"outputs: expected {classes} numbers from 0 to {outputs - 1}, the output of {who} for each class; got "
                    f"{','.join(map(str, given))}."
                )
            return given
        if outputs <= classes:
            return None
        if data.chosen is not None and data.chosen_from == outputs:
            return data.chosen
        names = ", ".join(map(str, data.classes[:3])) + (", …" if classes > 3 else "")
        raise InputError(
            f"{who} has {outputs} outputs and the data have {classes} classes ({names}). Say which output stands for each "
            f"class, in the order of the classes, with --outputs {','.join(map(str, range(min(classes, 3))))}"
            f"{',…' if classes > 3 else ''} or the like (numbered from 0)."
        )

    return first
