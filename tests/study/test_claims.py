"""What is seen and what is not, of features: hand-made tables, and labels without any meaning."""

import numpy as np
import pytest
import torch

import ntklens as nl
from ntklens.data import load_dataset
from ntklens.errors import InputError
from ntklens.features import FeatureScores, Threat, categories, eigenfeatures
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.record import Record, provenance
from ntklens.statistics import paired_difference, proportion
from ntklens.study import Spec, run
from ntklens.study.claims import claims
from ntklens.study.context import Context
from ntklens.study.stages.features import certificates
from ntklens.study.stages.features.certificates import drawn_images
from ntklens.study.stages.features.scores import selection_half
from ntklens.vocabulary import OUTPUT_COSINE

ROBUST, PARTLY, FRAGILE, USELESS = "robust and useful", "useful, partly robust", "useful non-robust", "not useful"
HEAD, TAIL, EVERYTHING = (0.85, 0.72), (0.67, 0.01), (0.91, 0.1)
"""Accuracy of the head, the tail and all features, clean and under attack."""


def tables_of(head=HEAD, tail=TAIL, everything=EVERYTHING, n=400):
    """The tables by which C3, C5 and C6 are judged, of sets of features whose outcomes are nearly independent."""
    right = {}
    for place, (name, shares) in enumerate((("head", head), ("tail", tail), ("all", everything))):
        order = np.random.default_rng(place).permutation(n)
        right[name] = [order < round(share * n) for share in shares]
    first = {"head": (0, 19), "tail": (20, 99), "all": (0, 99)}
    sets = []
    for name, (clean, attacked) in right.items():
        a, b = (proportion(int(hits.sum()), n) for hits in (clean, attacked))
        survives = proportion(int(attacked.sum()), int(clean.sum()))
        row = {"features": name, "first": first[name][0], "last": first[name][1], "n": n}
        sets.append(row | a.row("accuracy") | b.row("robust_accuracy") | survives.row("survives"))
    effects = [
        {"first": a, "second": b, "attacked": attacked}
        | paired_difference(right[a][attacked], right[b][attacked]).row()
        | {"n": n}
        for a, b, attacked in (("all", "head", True), ("all", "head", False), ("head", "tail", True))
    ]
    meta = {"k": 20, "rank": 100, "n_chosen": n, "n": n, "majority": 0.5, "eps": 8 / 255, "norm": "linf", "steps": 10}
    single = [{"index": i, "robustness": 0.4 / (1 + i)} for i in range(100)]
    return {"features": single, "head_tail": sets, "head_tail_effect": effects, "head_tail_meta": [meta]}


@pytest.fixture
def judged(tmp_path):
    """The row of a claim, by tables of features."""

    def judge(claim, more=None, **given):
        record = Record.create(tmp_path / "run", "test", "drawn", {}, provenance(seed=0, data="none"))
        record.add_stage("features", tables=tables_of(**given) | (more or {}))
        return next(r for r in claims(record)["claims"] if r["claim"] == claim)

    return judge


def proved(certified, n=400, attacked=0.72):
    """The tables of certificates: on how many images the head is proved right, and right under an attack."""
    row = {"machine": "head", "eps": 8 / 255, "undecided": 0, "n": n}
    for column, value in (("accuracy", 0.85), ("robust_accuracy", attacked), ("certified_accuracy", certified)):
        row |= proportion(round(value * n), n).row(column)
    meta = {"majority": 0.5, "eps": 8 / 255, "norm": "linf", "steps": 40, "n": n, "head": 20, "about": "On machines."}
    return {"more": {"certified": [row | {"machine": "all"}, row], "certified_meta": [meta]}}


AGREEMENT = {
    "kernel_a": "fc1",
    "kernel_b": "fc3",
    "measure": OUTPUT_COSINE,
    "value": 0.8,
    "low": 0.7,
    "high": 0.9,
    "n": 200,
    "null_low": 0.1,
    "null_high": 0.3,
}
OTHER = AGREEMENT | {"measure": "overlap", "value": 0.2, "low": None, "high": None, "n": None}
LEARNED = {"width": 512, "value": 0.9, "low": 0.8, "high": 0.95, "n": 50}


@pytest.mark.parametrize(
    ("claim", "given", "verdict", "words"),
    [
        ("C3", {}, "seen", "The tail"),
        ("C3", {"tail": (0.54, 0.01), "n": 100}, "cannot tell", "the accuracy of the tail on clean images"),
        ("C3", {"tail": (0.4, 0.01)}, "contradicted", "the accuracy of the tail on clean images"),
        ("C3", {"head": (0.6, 0.3)}, "contradicted", "the accuracy of the head under attack"),
        ("C3", {"tail": (0.8, 0.45)}, "contradicted", "survives the attack"),
        ("C3", {"tail": (0.8, 0.37)}, "cannot tell", "survives the attack"),
        ("C4", {"more": {"consistency": [AGREEMENT, OTHER]}}, "seen", "all but overlap, fc3 are above chance"),
        ("C4", {"more": {"consistency": [AGREEMENT | {"null_high": 0.75}]}}, "cannot tell", "chance: up to 0.75"),
        (
            "C4",
            {"more": {"consistency": [AGREEMENT, AGREEMENT | {"value": 0.2, "low": 0.1, "high": 0.25}]}},
            "contradicted",
            "0.20 [0.10, 0.25]",
        ),
        ("C4", {"more": {"consistency": [OTHER]}}, "not measured", ""),
        ("C5", {}, "seen", "By construction, training of the kernel"),
        ("C5", {"head": (0.7, 0.2), "tail": (0.7, 0.6)}, "contradicted", ""),
        ("C5", {"head": (0.6, 0.52), "n": 100}, "cannot tell", "the accuracy of the head under attack"),
        ("C5", {"more": {"learning_meta": [LEARNED]}}, "seen", "has learned half of it is 0.90 [0.80, 0.95]"),
        ("C5", {"more": {"learning_meta": [LEARNED | {"low": -0.1}]}}, "seen", "is 0.90 [-0.10, 0.95]"),
        ("C6", {}, "seen", "All features minus the head: -62.0 points"),
        ("C6", {"everything": (0.9, 0.8)}, "contradicted", "all features minus that of the head"),
        ("C6", {"everything": (0.9, 0.71)}, "cannot tell", "all features minus that of the head"),
        ("C6", {"tail": (0.54, 0.01), "n": 100}, "cannot tell", "the tail on clean images"),
        ("N1", proved(0.71), "seen", "the head is proved right on 71.0 %"),
        ("N1", proved(0.3), "cannot tell", "What is not proved of the head is not refuted"),
        ("N1", proved(0.3, attacked=0.4), "contradicted", "on which the head is right under PGD"),
        ("N1", proved(0.3, attacked=0.52), "cannot tell", "What is not proved of the head is not refuted"),
        ("N1", proved(0.3) | {"tail": (0.8, 0.6)}, "contradicted", "survives the attack"),
        ("N1", proved(0.52), "cannot tell", "on which the head is proved right in the whole ball"),
        ("N1", proved(0.71) | {"tail": (0.8, 0.6)}, "contradicted", "survives the attack"),
        ("N1", {}, "not measured", ""),
        *((claim, {"more": {"head_tail_meta": []}}, "not measured", "") for claim in ("C3", "C5", "C6")),
    ],
)
def test_a_claim_follows_its_rule(judged, claim, given, verdict, words):
    row = judged(claim, **given)
    assert row["verdict"] == verdict
    assert words.lower() in f"{row['measure']} {row['figure']}".lower()
    assert bool(row["would_decide"]) == (verdict == "cannot tell")


def test_images_that_would_decide_are_counted_in_both_halves(judged):
    """0.54 of 100 images against 0.5: the lower end is 9.7 points away, so (9.7 / 4)² times as many images decide."""
    row = judged("C3", tail=(0.54, 0.01), n=100)
    assert row["would_decide"] == "about 1200 test images"


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
    assert all(verdicts[c]["verdict"] != "seen" for c in ("C3", "C5", "C6"))


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
    assert {r["n"] for r in record.table("subsets")} == {200 - int(selection_half(Context(spec)).sum())}
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
    features, half = nl.eigenfeatures(context.machine), selection_half(context)
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


def test_machines_and_features_have_both_ends_of_their_robustness(tmp_path):
    spec = study(scored=5, certified=20, certified_radii=[0.5, 1.0], certified_features=4)
    record = run(spec, tmp_path / "run")
    rows, (meta,) = record.table("certified"), record.table("certified_meta")
    curves = {
        name: [r["eps"] for r in rows if r["machine"] == name] for name in ("head", "tail", "ridge 1e-2 λ_1", "all")
    }
    assert set(map(tuple, curves.values())) == {(4 / 255, 8 / 255)}
    assert {"first 10", "first 50", "stopped at 1000 / λ_1"} >= {r["machine"] for r in rows} - set(curves)
    assert all(r["certified_accuracy"] <= r["robust_accuracy"] <= r["accuracy"] for r in rows)
    assert all(round(20 * (r["robust_accuracy"] - r["certified_accuracy"])) == r["undecided"] for r in rows)
    assert meta["majority"] == 0.5, "as many images of each class"
    assert meta["head"] == record.table("head_tail_meta")[0]["k"]
    singles = record.table("certified_features")
    assert [r["index"] for r in singles] == [0, 1, 2, 3]
    assert all(r["certified"] <= r["robustness"] <= r["usefulness"] for r in singles)
    assert sum(r["certified"] for r in singles) > 0.5
    (n1,) = (r for r in record.table("claims") if r["claim"] == "N1")
    assert "is proved right on" in n1["figure"]


def test_certified_images_did_not_choose_the_head_and_follow_the_seed():
    spec = study(certified=20)
    context = Context(spec)
    x, y = drawn_images(context, 20)
    others = context.data.test.x[~selection_half(context)]
    assert all(bool((others == image).flatten(1).all(1).any()) for image in x)
    assert y.bincount().tolist() == [10, 10]
    assert torch.equal(x, drawn_images(Context(spec), 20)[0])
    assert not torch.equal(x, drawn_images(Context(spec.model_copy(update={"seed": 1})), 20)[0])


def test_certificates_leave_the_machine_of_the_experiment_on_its_device(monkeypatch):
    spec = study(scored=5, certified=2, certified_radii=[1.0], certified_features=1)
    context = Context(spec)
    features, images, moved = eigenfeatures(context.machine), drawn_images(context, 2), []
    context.spec = spec.model_copy(update={"device": "cuda"})
    monkeypatch.setattr(certificates, "drawn_images", lambda context, count: images)
    monkeypatch.setattr(KernelMachine, "to", lambda machine, device: moved.append(machine) or machine)
    tables = certificates.certified(context, features, spec.features, [{"k": 2}], Progress())
    assert len(moved) == 1
    assert moved[0] is not context.machine
    assert len(tables["certified"]) == 7
