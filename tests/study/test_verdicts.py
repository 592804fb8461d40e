"""How a verdict follows from estimates, intervals and margins, and what would decide."""

import math

import numpy as np
import pytest
from scipy import stats

from ntklens.record import Record, provenance
from ntklens.schema import check_tables
from ntklens.statistics import Estimate, mean
from ntklens.study.claims import claims
from ntklens.study.claims.base import Measure, cannot_tell, decide, estimate_of, judge
from ntklens.study.claims.more import more
from ntklens.vocabulary import CANNOT_TELL, CONTRADICTED, KERNEL_MATCHED, NOISE, SEEN, WHITE_BOX
from ntklens.wording import decided_by


@pytest.mark.parametrize(
    ("low", "high", "side", "verdict"),
    [
        (0.6, 0.8, "above", SEEN),
        (0.4, 0.6, "above", CANNOT_TELL),
        (0.5, 0.6, "above", CANNOT_TELL),
        (0.2, 0.4, "above", CONTRADICTED),
        (0.2, 0.4, "below", SEEN),
        (0.6, 0.8, "below", CONTRADICTED),
        (-math.inf, math.inf, "above", CANNOT_TELL),
    ],
)
def test_the_whole_interval_decides(low, high, side, verdict):
    middle = (low + high) / 2
    assert decide(Estimate(middle, low, high, 100), 0.5, side) == verdict
    measure = Measure("the accuracy", Estimate(middle, low, high, 100), 0.5, side)
    assert measure.verdict == verdict
    assert bool(measure.would_decide) == (verdict == CANNOT_TELL)


def measure(low, high, what="the accuracy"):
    return Measure(what, Estimate((low + high) / 2, low, high, 100), 0.5)


SURE, NARROW = measure(0.8, 0.9, "sure"), measure(0.51, 0.6, "narrow")
OPEN, WIDE, AGAINST = measure(0.49, 0.7, "open"), measure(0.3, 0.72, "wide"), measure(0.1, 0.2, "against")


@pytest.mark.parametrize(
    ("parts", "verdict", "decisive"),
    [
        ((SURE,), SEEN, "sure"),
        ((SURE, NARROW), SEEN, "narrow"),
        ((SURE, OPEN, WIDE), CANNOT_TELL, "wide"),
        ((OPEN, AGAINST, SURE), CONTRADICTED, "against"),
    ],
)
def test_a_claim_of_several_parts(parts, verdict, decisive):
    found = judge("Figures.", *parts)
    assert (found.verdict, found.decisive.what) == (verdict, decisive)
    assert [row["verdict"] for row in found.part_rows()] == [p.verdict for p in parts if len(parts) > 1]


def test_what_informs_decides_nothing():
    found = judge("Figures.", SURE, aside=[AGAINST])
    assert found.verdict == SEEN
    assert [row["decides"] for row in found.part_rows()] == [True, False]


def test_a_guard_that_does_not_hold():
    row = cannot_tell("The loss did not fall.", "longer trainings").row()
    assert (row["verdict"], row["measure"], row["would_decide"]) == (CANNOT_TELL, None, "longer trainings")
    assert decided_by(row) == ""


def test_as_many_seeds_as_are_asked_for_decide():
    """With the same mean and standard deviation, the interval of the larger number of seeds leaves the margin outside."""
    values = np.array([0.4, 1.6, 1.0])
    estimate = mean(values)
    assert estimate.low < 0
    assert more(estimate, 0.0, "seeds") == "one more seed"
    half = [stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n) for n in (3, 4)]
    assert half[0] > values.mean() > half[1]


@pytest.mark.parametrize(
    ("estimate", "of", "words"),
    [
        (Estimate(0.55, 0.45, 0.65, 100), "test images", "about 400 test images"),
        (Estimate(0.45, 0.35, 0.55, 100), "test images", "about 400 test images"),
        (Estimate(0.5001, 0.4, 0.6, 100), "test images", "more than 100 times as many test images"),
        (Estimate(0.5, 0.4, 0.6, 100), "test images", "more test images"),
        (Estimate(math.nan, 0.0, 1.0, 0), "test images", "more test images"),
        (Estimate(0.7, -math.inf, math.inf, 1), "seeds", "two more seeds"),
        (Estimate(0.5, 0.4, 0.6, 3), "seeds", "more seeds"),
        (Estimate(0.5001, 0.4, 0.6, 3), "seeds", "more than 100 more seeds"),
    ],
)
def test_what_would_decide(estimate, of, words):
    assert more(estimate, 0.5, of) == words


def test_missing_numbers_are_unknown_and_not_zero():
    row = {"value": None, "low": None, "high": None}
    estimate = estimate_of(row)
    assert math.isnan(estimate.value)
    assert decide(estimate, 0.0) == CANNOT_TELL


def lazy(beyond=(0.3, 0.2, 0.4), narrowing=(0.1, 0.05, 0.15), seed_share=0.1):
    def numbers(value, low, high):
        return {"value": value, "low": low, "high": high, "n": 200, "seeds": 2, "seed_share": seed_share}

    effects = [
        {"width": width, "first": first, "second": second} | numbers(*beyond)
        for width in (64, 1024)
        for first, second in ((NOISE, KERNEL_MATCHED), (KERNEL_MATCHED, WHITE_BOX))
    ]
    return {
        "lazy_effect": effects,
        "lazy_narrowing": [{"narrowest": 64, "widest": 1024} | numbers(*narrowing)],
    }


def regime(name, value, low, high):
    own = {"regime": name, "width": 1024, "seeds": 2, "clean": 0.9, "noise": 0.9, "kernel": 0.5, "white_box": 0.3}
    own |= {"value": 0.2, "low": 0.1, "high": 0.3, "cosine": 0.5, "n": 200, "seed_share": 0.0}
    return own | {"beyond_noise": value, "beyond_noise_low": low, "beyond_noise_high": high}


@pytest.mark.parametrize(
    ("tables", "verdict", "words"),
    [
        (lazy(), SEEN, "Networks in the lazy regime: seen."),
        (lazy(narrowing=(0.1, -0.05, 0.25)), CANNOT_TELL, "about 450 test images"),
        (lazy(narrowing=(0.1, -0.05, 0.25), seed_share=0.9), CANNOT_TELL, "one more seed"),
        (lazy(narrowing=(-0.1, -0.15, -0.05)), CONTRADICTED, ""),
        (lazy(beyond=(-0.1, -0.15, -0.05)), CONTRADICTED, ""),
        (
            lazy()
            | {"lazy_regimes": [regime("lazy", 0.3, 0.2, 0.4), regime("cross-entropy, SGD", -0.1, -0.15, -0.05)]},
            SEEN,
            "Networks in the lazy regime: seen and as people train them (cross-entropy, SGD): contradicted, -10.0 points",
        ),
        ({"lazy_effect": lazy()["lazy_effect"]}, CANNOT_TELL, "networks of a second width"),
        ({}, "not measured", ""),
    ],
)
def test_c2_tells_the_regimes_apart(tmp_path, tables, verdict, words):
    record = Record.create(tmp_path / "run", "test", "drawn", {}, provenance(seed=0, data="none"))
    check_tables("lazy", tables)
    record.add_stage("lazy", tables=tables)
    judged = claims(record)
    check_tables("claims", judged)
    row = next(row for row in judged["claims"] if row["claim"] == "C2")
    assert row["verdict"] == verdict
    assert words in f"{row['figure']} {row['would_decide']}"
