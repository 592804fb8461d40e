"""The stage "victim": a surrogate, the search of its time, the attack and the checks."""

from __future__ import annotations

from dataclasses import replace

from ntklens.linalg import factor_seconds
from ntklens.study.context import Context
from ntklens.study.costs.rates import Rates
from ntklens.study.parts import ATTACK, CHECKS, NO_CHECKS, SAMPLE, SEARCH, SURROGATE, TEST, Option, Part
from ntklens.study.spec import SEARCHES, VictimSpec
from ntklens.study.stages.check_plan import check_plan
from ntklens.study.stages.surrogate import sources
from ntklens.study.stages.victim_model import checked_victim
from ntklens.transfer import CROSS_ENTROPY_TIMES, SurrogateName
from ntklens.vocabulary import SQUARE, WHITE_BOX

_PRODUCTS = 4500
"""Products with the kernel matrix that a machine of the cross-entropy takes, on average over the times of its search."""
_RATE = 3e9
"""Multiplications of such a product in a second."""
_SET_ASIDE = 100
_TIME = Option("--time", "victim.time", "--time inf")
_SQUARE_LEFT = 0.5
"""Share of the queries that Square asks for, about: images that are fooled leave it."""
_SCORED = 6
"""Times that each test image is shown to the victim to score clean, noisy and attacked images."""


def victim_parts(context: Context, spec: VictimSpec, rates: Rates) -> list[Part]:
    """Count what each surrogate is asked for, and what the victim is."""
    named = sources(context, spec).items()
    parts = [part for name, known in named for part in _one(context, spec, name, known, rates)]
    names = list(dict.fromkeys(part.name for part in parts))
    merged = [[part for part in parts if part.name == name] for name in names]
    return [Part(same[0].name, sum(part.seconds for part in same), same[0].option) for same in merged]


def _one(context: Context, spec: VictimSpec, name: str, known: SurrogateName | None, rates: Rates) -> list[Part]:
    n_test = len(context.data.test)
    per_image = context.victim_seconds
    before: list[Part] = []
    if known is None and name == WHITE_BOX:
        value, gradient = _white_box(context, spec, rates)
    elif known is None:
        # The guard has timed two images, which is more per image than a batch takes; a gradient takes about three times
        # as long.
        value, gradient = per_image, 3 * per_image
    else:
        value, gradient, before = _surrogate(context, spec, known, rates)
    method = {"fgsm": 1, "pgd": context.threat.steps}.get(spec.method, 0)
    queries = int(n_test * spec.queries * _SQUARE_LEFT) if SQUARE in (spec.method, name) else 0
    gradients = 0 if name == SQUARE else n_test * method
    attack = queries * value + gradients * gradient + _SCORED * n_test * per_image
    parts = [*before, Part(ATTACK, attack, TEST)]
    if spec.checks:
        plan = check_plan(queries, gradients, n_test)
        of_images = plan.images * (4 * value + gradient)
        of_attacks = plan.attacked * (2 * plan.steps * gradient + plan.queries * _SQUARE_LEFT * value)
        parts.append(Part(CHECKS, of_images + of_attacks + n_test * per_image, NO_CHECKS))
    return parts


def _white_box(context: Context, spec: VictimSpec, rates: Rates) -> tuple[float, float]:
    """Return the seconds of a value and of a gradient of the victim on one image, which a white box may be asked for."""
    try:
        victim = checked_victim(context, spec)
        return rates.network_value(WHITE_BOX, victim), rates.network_gradient(WHITE_BOX, victim)
    except Exception:  # a user's module may raise anything, such as that it has no gradient; the stage says so
        return context.victim_seconds, 3 * context.victim_seconds


def _surrogate(
    context: Context, spec: VictimSpec, name: SurrogateName, rates: Rates
) -> tuple[float, float, list[Part]]:
    """Return the seconds of a value and of a gradient on one image, and the parts that come before the attack."""
    searched = spec.time in SEARCHES
    sample = min(spec.sample, len(context.data.train) - (_SET_ASIDE if searched else 0))
    name = replace(name, variants=())
    source = name.network
    if name.kind == "net" and source is not None and source.kind != "machine":
        network = rates.network(source, spec.width)
        seconds = 0.0
        if not source.is_trained:
            steps = spec.epochs * -(-sample // 128)
            seconds = steps * rates.step(name, network, min(128, sample))
        training = Part(SURROGATE, seconds, SAMPLE)
        return rates.network_value(name, network), rates.network_gradient(name, network), [training]
    value, gradient = rates.value(name, sample), rates.gradient(name, sample)
    parts = [Part(SURROGATE, rates.fit(name, sample), SAMPLE)]
    if spec.time != "inf":
        seconds = factor_seconds(sample, by_cholesky=False)
        if spec.time == "search":
            seconds += 10 * _SET_ASIDE * gradient + 11 * _SET_ASIDE * context.victim_seconds
        elif spec.time == "cross-entropy":
            times, products = len(CROSS_ENTROPY_TIMES), _PRODUCTS * sample**2 * context.outputs
            seconds = times * (products / _RATE + _SET_ASIDE * (gradient + context.victim_seconds))
        elif spec.time == "match":
            seconds += 33 * _SET_ASIDE * value + _SET_ASIDE * context.victim_seconds
        parts.append(Part(SEARCH, seconds, _TIME))
    return value, gradient, parts
