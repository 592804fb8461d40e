"""What is seen and what is not, of features: hand-made tables, and labels without any meaning."""

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.data import load_dataset
from ntklens.errors import InputError
from ntklens.features import FeatureScores, Threat, categories
from ntklens.record import Record, provenance
from ntklens.statistics import proportion
from ntklens.study import Spec, run
from ntklens.study.claims import claims
from ntklens.study.context import Context
from ntklens.study.stages.features.scores import selection_half

ROBUST, PARTLY, FRAGILE, USELESS = "robust and useful", "useful, partly robust", "useful non-robust", "not useful"
META = {"majority": 0.5, "eps": 8 / 255, "norm": "linf", "n": 1000, "steps": 1}
SPECTRUM = [(0, 0, USELESS), (1, 4, ROBUST), (5, 9, PARTLY), (10, 99, FRAGILE)]
"""First and last feature of each band, and what it is."""
FIRST = [(1, 0.5, 0.5), (5, 0.78, 0.7), (10, 0.8, 0.6), (100, 0.82, 0.02)]
"""k, accuracy and robust accuracy of the machines of the first k features."""


def both(clean, robust):
    a, b = (proportion(round(1000 * share), 1000) for share in (clean, robust))
    return a.row("accuracy") | b.row("robust_accuracy")


@pytest.fixture
def judged(tmp_path):
    """Verdict of a claim by tables of features."""

    def judge(claim, bands=SPECTRUM, first=FIRST, meta=META, **more):
        tables = {
            "features": [
                {"index": i, "category": USELESS, "usefulness": 0.5, "robustness": 0.4 / (1 + i)} for i in range(100)
            ],
            "features_meta": [meta],
            "bands": [
                {"first": a, "last": b, "count": b - a + 1, "category": kind} | both(0.7, 0.1) for a, b, kind in bands
            ],
            "top_k": [{"k": k, **both(clean, robust)} for k, clean, robust in first],
            **more,
        }
        record = Record.create(tmp_path / "run", "test", "drawn", {}, provenance(seed=0, data="none"))
        record.add_stage("features", tables=tables)
        return next((r["verdict"], r["figure"]) for r in claims(record) if r["claim"] == claim)

    return judge


AGREEMENT = {
    "kernel_a": "fc1",
    "kernel_b": "fc3",
    "measure": "overlap",
    "value": 0.8,
    "null_low": 0.1,
    "null_high": 0.3,
}
LEARNED = {"width": 512, "value": 0.9, "low": 0.8, "high": 0.95}
UNKNOWN = AGREEMENT | {"measure": "rank correlation", "value": None}


@pytest.mark.parametrize(
    ("claim", "given", "verdict", "words"),
    [
        (
            "C3",
            {},
            "seen",
            "1 to 4 are useful and, under one step, robust. Taken together, features 10 to 99 are useful and, under one",
        ),
        ("C3", {"bands": SPECTRUM[:3]}, "not seen here", "0 useful but not robust"),
        ("C3", {"bands": [SPECTRUM[0], SPECTRUM[3]]}, "not seen here", "0 are useful and robust"),
        ("C3", {"bands": [(0, 0, ROBUST), (1, 99, FRAGILE)]}, "not seen here", "0 are useful and robust"),
        ("C4", {"consistency": [AGREEMENT]}, "seen", "All 1 measures are above the 97.5 % point"),
        (
            "C4",
            {"consistency": [AGREEMENT, AGREEMENT | {"value": 0.2}]},
            "not seen here",
            "Not above chance: overlap, fc3",
        ),
        (
            "C4",
            {"consistency": [AGREEMENT, UNKNOWN]},
            "seen",
            "Without a value, as one side is constant: rank correlation",
        ),
        ("C4", {"consistency": [UNKNOWN]}, "not measured here", ""),
        ("C5", {}, "seen", "robust and useful ones end at feature 4, useful non-robust ones begin at 10."),
        ("C5", {"bands": [(0, 4, FRAGILE), (5, 9, ROBUST)]}, "not seen here", "end at feature 9"),
        ("C5", {"bands": [(0, 99, USELESS)]}, "not seen here", "no robust and useful and no useful non-robust band"),
        ("C5", {"learning_meta": [LEARNED]}, "seen", "by 0.90 [0.80, 0.95]"),
        ("C5", {"learning_meta": [LEARNED | {"low": -0.1}]}, "not seen here", "by 0.90"),
        ("C5", {"learning_meta": [LEARNED | {"value": None, "low": -1.0}]}, "seen", "gave no order"),
        ("C6", {}, "seen", "The first 5: 78.0 %"),
        ("C6", {"bands": SPECTRUM[:3]}, "not seen here", "No band of the other features is useful and not robust"),
        (
            "C6",
            {"bands": [(0, 0, USELESS), (1, 4, FRAGILE), (5, 9, ROBUST), (10, 99, USELESS)]},
            "not seen here",
            "No band of the other features",
        ),
        ("C6", {"first": [FIRST[0], FIRST[3]]}, "not seen here", "No smaller number of the first ones"),
        ("C6", {"first": [(5, 0.9, 0.7), FIRST[3]]}, "not seen here", "The first 5: 90.0 %"),
        ("C6", {"first": [(5, 0.7, 0.03), FIRST[3]]}, "not seen here", "The first 5: 70.0 %"),
        *((claim, {"meta": META | {"eps": 0.0}}, "not measured here", "") for claim in ("C3", "C5", "C6")),
    ],
)
def test_a_claim_follows_its_rule(judged, claim, given, verdict, words):
    found, figure = judged(claim, **given)
    assert found == verdict
    assert words in figure


def study(test=200, classes=(2, 4), **features):
    own = {"compare": [], "trade_off": 2, "images": 2} | features
    data = {"name": "fashion-mnist-mini", "classes": list(classes), "train": 150, "test": test}
    return Spec.parse({"data": data, "attack": {"curve": []}, "features": own})


def test_labels_without_meaning_have_no_useful_features(tmp_path):
    """The robustness of features of no use falls with their place as well; that is no evidence for anything."""
    data = load_dataset("fashion-mnist-mini", classes=[2, 4]).first(150, 200)
    rng = np.random.default_rng(0)
    arrays = {f"x_{name}": part.x.numpy() for name, part in (("train", data.train), ("test", data.test))}
    arrays |= {f"y_{n}": rng.permutation(p.y.numpy()) for n, p in (("train", data.train), ("test", data.test))}
    np.savez(tmp_path / "shuffled.npz", **arrays)
    values = study().model_dump(exclude_unset=True) | {"data": {"name": str(tmp_path / "shuffled.npz")}}
    record = run(Spec.parse(values), tmp_path / "run")
    verdicts = {r["claim"]: r for r in record.table("claims")}
    assert [verdicts[c]["verdict"] for c in ("C3", "C5", "C6")] == ["not seen here"] * 3
    assert "it falls with any labels" in verdicts["C5"]["figure"]


def test_scores_of_several_steps_and_of_halves(tmp_path):
    spec = study(steps=4, learning_steps=1, learning_width=16)
    record = run(spec, tmp_path / "run")
    rows, meta = record.table("features"), record.table("features_meta")[0]
    kept, one = (np.array([r[key] for r in rows]) for key in ("robustness", "one_step"))
    assert (kept <= one).all()
    assert (kept < one).any()
    y = Context(spec).test[1].numpy()
    assert meta["majority"] == max(np.mean(y == 0), np.mean(y == 1))
    assert meta["steps"] == 4
    assert {r["n"] for r in record.table("subsets")} == {200 - int(selection_half(torch.tensor(y)).sum())}
    assert {r["n"] for r in record.table("top_k")} == {200}
    assert all(
        r["robust_accuracy"] <= r["accuracy"] for name in ("top_k", "subsets", "bands") for r in record.table(name)
    )
    sets = {r["features"]: r["count"] for r in record.table("subsets")}
    halves = [r["by_half"] for r in rows]
    assert all(halves.count(kind) == sets.get(kind, 0) for kind in (ROBUST, PARTLY, FRAGILE))
    assert record.array("features/attribution_robust").shape == (150,)


def test_what_is_chosen_is_scored_on_images_that_did_not_choose(tmp_path):
    """Held to machines and categories made by hand; the two halves are of different sizes."""
    spec = study(
        test=199,
        classes=(7, 9),
        robust_networks=["fc1"],
        robust_ranks=[3],
        robust_seeds=1,
        robust_epochs=1,
        top_k=[100],
    )
    record, context = run(spec, tmp_path / "run"), Context(spec)
    x, y = context.test
    features, half = nl.eigenfeatures(context.machine), selection_half(context.test[1])
    assert int(half.sum()) == 100
    made = features.outcomes(x[half], y[half], Threat(8 / 255))
    scores = (FeatureScores.of(range(150), right) for right in (made.clean, made.attacked))
    majority = float(y[half].double().mean())
    names = categories(*scores, max(majority, 1 - majority))
    assert [r["by_half"] for r in record.table("features")] == names
    rest = [i for i, name in enumerate(names) if name != ROBUST]
    row = next(r for r in record.table("subsets") if r["features"] == "all but the robust")
    assert 0 < row["count"] == len(rest) < 150
    assert row["n"] == int((~half).sum())
    assert row["accuracy"] == features.keep(rest).score(x[~half], y[~half])
    networks = {r["trained_on"]: r for r in record.table("robust_data")}
    assert networks["features: robust and useful"]["n"] == int((~half).sum())
    assert networks["original"]["n"] == 199
    assert networks["original"]["accuracy_low"] is None, "one seed has no interval over seeds"


def test_every_class_chooses_by_half_of_its_images():
    y = torch.tensor([0, 0, 0, 1, 1, 0, 2])
    assert selection_half(y).tolist() == [True, False, True, True, False, False, True]


def test_duplicate_images_under_a_ridge(tmp_path):
    x = np.random.default_rng(0).random((40, 6, 6), np.float32)
    x[7] = x[3]
    y = np.arange(40) % 2
    y[7] = y[3]
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    values = {"data": {"name": str(tmp_path / "mine.npz")}, "kernel": {"ridge": 1e-3}, "attack": {"curve": []}}
    record = run(Spec.parse(values | {"features": {"compare": [], "trade_off": 2}}), tmp_path / "run")
    assert [len(record.table("features")), record.table("top_k")[-1]["k"]] == [39, 39]
    assert record.table("bands")[-1]["last"] == 38


def test_features_beyond_the_rank_are_refused(tmp_path):
    x = np.random.default_rng(0).random((40, 6, 6), np.float32)
    x[7] = x[3]
    y = np.arange(40) % 2
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    values = {"data": {"name": str(tmp_path / "mine.npz")}, "kernel": {"ridge": 1e-3}, "attack": {"curve": []}}
    for own in ({"pictured": [0, 39]}, {"scored": 40}):
        with pytest.raises(InputError, match="39 eigenvalues above rounding, so features 0 to 38"):
            run(Spec.parse(values | {"features": own | {"compare": []}}), tmp_path / "run")


def test_other_kernels_see_every_class_of_sorted_images(tmp_path):
    x = np.random.default_rng(0).random((60, 6, 6), np.float32)
    y = np.sort(np.arange(60) % 3)
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[::3], y_test=y[::3])
    features = {"compare": ["fc3"], "compare_train": 12, "subspace": 4, "trade_off": 2}
    values = {"data": {"name": str(tmp_path / "mine.npz")}, "attack": {"curve": []}, "features": features}
    record = run(Spec.parse(values), tmp_path / "run")
    assert {r["kernel_b"] for r in record.table("consistency")} == {"fc3"}
