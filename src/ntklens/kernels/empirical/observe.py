"""Which parameters of a network have structured tangents, decided from two runs of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.kernels.empirical.layers import layer_class, weight_family
from ntklens.kernels.empirical.plan import Layer, Plan
from ntklens.kernels.empirical.recording import (
    Run,
    Slot,
    largest,
    nearly_equal,
    not_a_function,
    record_run,
    slots_of,
    structured_layers,
)
from ntklens.kernels.empirical.repeated import check_forward
from ntklens.modules import depends_on_the_batch

Slots = dict[str, tuple[Slot | None, Slot | None]]
"""The weight and the bias of each module, by the module's name."""


def observe(network: nn.Module, scales: Mapping[str, float], x: Tensor, *, layerwise: bool) -> Plan:
    """Run the network on copies of one input and plan how its tangents are computed.

    Args:
        network: the network.
        scales: factor of each differentiated parameter, by its name.
        x: one input, (1, *shape).
        layerwise: whether tangents may be structured; otherwise all parameters are left to plain Jacobians.

    Raises:
        InputError: outputs are not (n, O), or depend on chance, on earlier calls or on the rest of the batch.
    """
    # Each batch has two copies of x. The batches differ in the rest and in the places of the copies: what is a function of
    # single inputs is equal for the copies and in all batches, and a layer that takes the inputs in an order of its own is
    # seen not to be on the batch.
    other = torch.zeros_like(x)
    batches = [(torch.cat([x, x]), (0, 1)), (torch.cat([x, x, other]), (0, 1)), (torch.cat([other, x, x]), (1, 2))]
    check_forward(network, batches[0][0])
    runs = [record_run(network, batch, scales.keys(), twins) for batch, twins in batches]
    f, *again = (run.outputs for run in runs)
    if f.ndim != 2:
        raise InputError(f"expected a network with outputs of shape (n, O); got {tuple(f.shape)} for n = 2.")
    for outputs, (_, (first, _)) in zip([f, *again], batches, strict=True):
        if not nearly_equal(f[0], outputs[first], largest(f)):
            raise not_a_function("depend on the rest of the batch")
    if depends_on_the_batch(network, batches[0][0], f):  # on large and random inputs, where zeros have no effect
        raise not_a_function("depend on the rest of the batch")
    layers = _layers(network, scales, runs) if layerwise else {}
    broadcasts = (
        {name: run.broadcasts[name] for run in runs for name in _broadcast_everywhere(runs)} if layerwise else {}
    )
    layers |= {name: Layer((), nn.Parameter, (name,), scales[name], 0.0) for name in scales if name in broadcasts}
    in_layers = {name for layer in layers.values() for name in layer.parameters}
    rest = {name: scale for name, scale in scales.items() if name not in in_layers}
    # Numbers that the tangents of one input take. For each call: its input h, and three times its output z in the forward
    # pass (z, the zero that is added to it, and their sum); for each output of the network, one cotangent per call, and
    # twice the largest of them while it is being reshaped; for plain Jacobians, three times the Jacobian.
    modules = {module for layer in layers.values() for module in layer.modules}
    calls = [call for module in modules for call in runs[0].calls[module]]
    fixed = sum((0 if call.h is None else call.h[0].numel()) + 3 * call.output_numbers for call in calls)
    per_output = sum(call.output_numbers for call in calls) + max(
        (2 * call.output_numbers for call in calls), default=0
    )
    fixed += 2 * sum(broadcasts.values())
    per_output += 2 * sum(broadcasts.values()) + sum(
        p.numel() for name, p in network.named_parameters() if name in broadcasts
    )
    unused = frozenset(name for name in rest if not any(run.uses[name] for run in runs))
    per_output += 3 * sum(p.numel() for name, p in network.named_parameters() if name in rest.keys() - unused)
    return Plan(
        layers,
        rest,
        f.shape[1],
        f.dtype,
        fixed,
        per_output,
        unused=unused,
        largest=max((call.output_numbers for call in calls), default=0),
    )


def _broadcast_everywhere(runs: list[Run]) -> set[str]:
    """Return the parameters that are broadcast over the inputs, and used in no other way, in all runs."""
    return set.intersection(*(set(run.broadcasts) for run in runs))


def _layers(network: nn.Module, scales: Mapping[str, float], runs: list[Run]) -> dict[str, Layer]:
    """Group the parameters with structured tangents into layers: weight and bias together where that is possible."""
    modules = structured_layers(network)
    slots = {name: slots_of(network, name) for name in modules if runs[0].calls[name]}
    users = _structured_parameters(modules, slots, scales, runs)
    layers: dict[str, Layer] = {}
    for module, weight_and_bias in slots.items():
        present = [slot for slot in weight_and_bias if slot is not None and slot.name in scales]
        # A parameter that several modules share belongs to the first of them.
        owned = [slot for slot in present if slot.name in users and users[slot.name][0] == module]
        # Weight and bias are one layer, named after the module, if every differentiated parameter of it is structured and
        # used by the same modules. Otherwise each is a layer under its own name.
        together = len(owned) == len(present) and len({users[slot.name] for slot in owned}) == 1
        for group in [owned] if together else [[slot] for slot in owned]:
            names = [slot.name for slot in group]
            weight_scale, bias_scale = (
                slot.factor * scales[slot.name] if slot is not None and slot.name in names else 0.0
                for slot in weight_and_bias
            )
            layers[module if together else names[0]] = Layer(
                users[names[0]], layer_class(modules[module]), tuple(names), weight_scale, bias_scale
            )
    return layers


def _structured_parameters(
    modules: Mapping[str, nn.Module], slots: Slots, scales: Mapping[str, float], runs: list[Run]
) -> dict[str, tuple[str, ...]]:
    """Return the parameters with structured tangents, each with the names of the modules that use it.

    A parameter's tangent has a closed form if all of its uses are known, and alike:

    1. It is the weight or the bias of modules that run as layers of torch do, and that were called.
    2. All of these modules use it in one role (weight or bias), with one factor, and are of one family, so that their calls
       are positions of a single product.
    3. In all runs it entered the graph of the outputs as often as these modules were called, and once in each of these
       calls: it has no other use (as in `F.linear(x, layer.weight.T)`), and no call was without effect.
    4. Each of these calls was on the batch, with the module's own parameters, and its input is still there.
    """
    uses: dict[str, list[tuple[str, int, float]]] = {}  # parameter -> (module, role, factor) of each module that has it
    for module, weight_and_bias in slots.items():
        for role, slot in enumerate(weight_and_bias):
            if slot is not None and slot.name in scales:
                uses.setdefault(slot.name, []).append((module, role, slot.factor))

    def is_structured(name: str) -> bool:
        users = [module for module, _, _ in uses[name]]
        alike = len({(weight_family(modules[module]), role, factor) for module, role, factor in uses[name]}) == 1  # 2.
        counted = all(run.uses[name] == sum(len(run.calls[module]) for module in users) for run in runs)  # 3.
        calls = [call for run in runs for module in users for call in run.calls[module]]
        usable = all(call.is_usable and call.uses[name] == 1 for call in calls)  # 3. and 4.
        return alike and counted and usable

    return {name: tuple(module for module, _, _ in uses[name]) for name in uses if is_structured(name)}
