"""C7 and C8 on hand-made paths: their rule, their guards, and what would decide."""

import math

import numpy as np
import pytest
from scipy import stats

from ntklens.record import Record, provenance
from ntklens.schema import check_tables
from ntklens.statistics import proportion
from ntklens.study.claims import claims
from ntklens.study.claims.ratio import Ratio
from ntklens.study.stages.dynamics.settled import equal_accuracy

META = {"top_k": 10, "probe": 100, "seeds": 4, "lazy_threshold": 0.01, "architecture": "small-cnn", "attack_steps": 5}
META |= {"eps": 8 / 255, "majority": 0.1}
STANDARD, PGD = (17.4, 17.9, 16.1, 14.5), (11.9, 14.0, 10.4, 9.1)
LEFT = {"standard": 0.09, "PGD": 0.05}


def row(training, seed, epoch, **more):
    columns = {"area": 4.0, "first_epoch": 0.0, "last_epoch": 40.0, "settled": True, "learned_epoch": 17.0}
    columns |= {"distance_when_learned": LEFT[training]}
    columns |= {"centred_rank": 26.0 if training == "standard" else 20.0 + 0.3 * seed}
    columns |= proportion(800, 1000).row("accuracy") | proportion(700, 1000).row("robust_accuracy")
    return {"training": training, "seed": seed, "epoch": epoch} | columns | more


def equal(training, seed, rank):
    return {"training": training, "seed": seed, "accuracy": 0.77, "epoch": 9.0, "centred_rank": rank}


@pytest.fixture
def judged(tmp_path):
    """The row of a claim, and its parts, from settling epochs and changes of single rows."""

    def judge(claim, standard=STANDARD, pgd=PGD, changes=None, meta=META):
        rows = [row("standard", seed, epoch) for seed, epoch in enumerate(standard)]
        rows += [row("PGD", seed, epoch) for seed, epoch in enumerate(pgd)]
        for (training, seed), more in (changes or {}).items():
            next(r for r in rows if (r["training"], r["seed"]) == (training, seed)).update(more)
        same = [
            equal(name, seed, 19.0 + 0.1 * seed * (name == "PGD")) for seed in range(4) for name in ("standard", "PGD")
        ]
        tables = {"settling": rows, "equal_accuracy": same, "dynamics_meta": [meta]}
        check_tables("dynamics", tables)
        record = Record.create(tmp_path / "run", "test", "drawn", {}, provenance(seed=0, data="none"))
        record.add_stage("dynamics", tables=tables)
        found = claims(record)
        return tuple([r for r in found[table] if r["claim"] == claim] for table in ("claims", "claim_parts"))

    return judge


def test_the_ratio_is_that_of_paired_seeds(judged):
    (found,), parts = judged("C7")
    logs = np.log(np.array(STANDARD) / PGD)
    half = stats.t.ppf(0.975, 3) * logs.std(ddof=1) / 2
    assert found["verdict"] == "seen"
    assert [found["estimate"], found["low"], found["high"]] == pytest.approx(
        np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    )
    assert found["margin"] == 1.1
    assert (
        "17.4, 17.9, 16.1, 14.5 under standard and 11.9, 14.0, 10.4, 9.1 under PGD training (4 seeds" in found["figure"]
    )
    assert "+0.040 more of it are left" in found["figure"]
    assert [p["decides"] for p in parts] == [True, False]


@pytest.mark.parametrize(
    ("given", "verdict", "decided_by"),
    [
        ({"standard": PGD, "pgd": STANDARD}, "contradicted", ""),
        ({"pgd": (17.5, 17.8, 16.0, 14.6)}, "cannot tell", "no number of seeds: the two are alike to within a tenth"),
        ({"pgd": (17.0, 10.0, 9.0, 14.0)}, "cannot tell", "eight more seeds"),
        ({"pgd": (25.0, 14.0, 12.0, 15.0)}, "cannot tell", "more seeds, unless the two are alike to within a tenth"),
        ({"standard": STANDARD[:2], "pgd": PGD[:2]}, "cannot tell", "one more seed"),
        ({"standard": STANDARD[:1], "pgd": PGD[:1]}, "cannot tell", "two more seeds"),
        ({"pgd": (None, *PGD[1:])}, "cannot tell", "longer trainings"),
    ],
)
def test_c7_by_its_interval(judged, given, verdict, decided_by):
    (found,), _ = judged("C7", **given)
    assert found["verdict"] == verdict
    assert found["would_decide"] == decided_by
    assert "estimate" in found


LEARNS = "a training that learns: another rate, more epochs or a smaller ε"


@pytest.mark.parametrize("claim", ["C7", "C8"])
@pytest.mark.parametrize(
    ("row", "change", "words"),
    [
        (("standard", 2), {"accuracy_low": 0.08}, "standard training has not learned the task: on clean images"),
        (("PGD", 0), {"robust_accuracy_low": 0.1}, "PGD training has not learned the task: under attack"),
        (("PGD", 1), {"robust_accuracy_low": None}, "PGD training has not learned the task: under attack"),
        (("PGD", 1), {"centred_rank": 1.5}, "hardly more than one direction"),
        (("standard", 3), {"learned_epoch": 25.0}, "standard training still learns at the end"),
        (("PGD", 3), {"learned_epoch": None}, "PGD training still learns at the end"),
    ],
)
def test_guards(judged, claim, row, change, words):
    (found,), _ = judged(claim, changes={row: change})
    assert found["verdict"] == "cannot tell"
    assert words in found["figure"]
    assert found["would_decide"]


def test_a_standard_training_may_fail_under_attack(judged):
    changes = {("standard", seed): {"robust_accuracy": 0.0, "robust_accuracy_low": 0.0} for seed in range(4)}
    assert judged("C7", changes=changes)[0][0]["verdict"] == "seen"


def test_c8_says_both(judged):
    (found,), parts = judged("C8")
    assert found["verdict"] == "seen"
    assert "At the end of training: seen" in found["figure"]
    assert "At equal clean accuracy (77 %, 77 %, 77 %, 77 %): cannot tell" in found["figure"]
    assert [(p["decides"], p["verdict"]) for p in parts] == [(True, "seen"), (False, "cannot tell")]
    assert parts[1]["would_decide"] == "no number of seeds: the two are alike to within a tenth"


def test_trainings_without_a_pair_are_not_judged(judged):
    (found,), _ = judged("C7", pgd=())
    assert found["verdict"] == "not measured"


def test_another_order_of_batches_is_seldom_seen():
    """Under the null both are drawn alike: of 2,000 draws of 4 seeds, at most 2.5 % and chance lie on the claim's side."""
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.normal(2.7, 0.12, (2000, 4, 2)))
    verdicts = [Ratio.over_seeds("ratio", [tuple(pair) for pair in seeds]).verdict for seeds in drawn]
    assert verdicts.count("seen") <= 0.02 * len(verdicts)
    assert verdicts.count("contradicted") <= 0.02 * len(verdicts)


def test_a_ratio_that_is_not_known():
    found = Ratio.over_seeds("ratio", [(0.0, 3.0), (1.0, 2.0)])
    assert math.isnan(found.estimate.value)
    assert (found.verdict, found.text) == ("cannot tell", "not known")
    assert Ratio.over_seeds("ratio", [(3.0, 2.0)]).text == "1.50"


def test_equal_accuracy_is_interpolated_between_epochs():
    """97 % of the lower final accuracy, 0.5, is 0.485; it is passed halfway from 0.47 to 0.5, and at 0.485 / 0.9."""
    paths = {"standard": [0.0, 0.9, 0.9], "PGD": [0.1, 0.47, 0.5]}
    rows = [
        {"training": name, "seed": 0, "epoch": t, "accuracy": a, "centred_rank": 10.0 + t}
        for name, path in paths.items()
        for t, a in enumerate(path)
    ]
    settled = [{"training": name, "seed": seed, "accuracy": path[-1]} for name, path in paths.items() for seed in (0,)]
    standard, pgd = equal_accuracy(rows, [*settled, {"training": "PGD", "seed": 1, "accuracy": 0.5}])
    assert standard["accuracy"] == pgd["accuracy"] == pytest.approx(0.485)
    assert standard["centred_rank"] == pytest.approx(10 + 0.485 / 0.9)
    assert pgd["epoch"] == pytest.approx(1.5)
    assert pgd["centred_rank"] == pytest.approx(11.5)
