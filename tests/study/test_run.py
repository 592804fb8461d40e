"""A small experiment from spec to record, on real images, through every stage."""

import pytest

from ntklens.data import load_dataset
from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.report import render, write_animation
from ntklens.study import Spec, demo_spec, export_robust_data, paper_spec, planned, run

SMALL = {
    "kind": "test",
    "data": {"name": "fashion-mnist-mini", "classes": [2, 4], "train": 60, "test": 40},
    "attack": {"curve": [0.0, 8 / 255], "gallery": 2, "steps": 3},
    "lazy": {"widths": [16, 256], "seeds": 1, "steps": 40},
    "features": {
        "top_k": [1, 10],
        "pictured": [0, 20],
        "images": 2,
        "compare": ["fc2"],
        "subspace": 5,
        "scored": 30,
        "certified": 6,
        "certified_radii": [1.0],
        "certified_features": 2,
    },
    "dynamics": {
        "epochs": 4,
        "attack_steps": 2,
        "probe": 20,
        "top_k": 4,
        "learning_rate": 0.02,
        "machine_train": 20,
        "machine_test": 20,
        "queries": 5,
        "linear_from": [2],
    },
}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return run(Spec.parse(SMALL), tmp_path_factory.mktemp("study") / "run")


def test_every_stage_and_every_claim_is_there(record):
    assert record.stages == ["data", "attack", "lazy", "features", "dynamics", "claims"]
    claims = record.table("claims")
    assert [c["claim"] for c in claims] == [*(f"C{i}" for i in range(1, 9)), "L1", "N1"]
    assert {c["verdict"] for c in claims} <= {"seen", "contradicted", "cannot tell"}
    assert all(c["figure"] for c in claims)


def test_the_kernels_examples_beat_noise(record):
    """C1 on 40 images: the effect is large enough to be seen even here."""
    (effect,) = record.table("attack_effect")
    assert effect["low"] > 0.1
    by_attack = {r["attack"]: r for r in record.table("attack_curve") if r["eps"] > 0}
    assert by_attack["pgd"]["accuracy"] <= by_attack["fgsm"]["accuracy"] < by_attack["noise"]["accuracy"]


def test_each_network_is_shown_each_source(record):
    rows = record.table("lazy")
    sources = {"clean", "noise", "kernel t=inf", "kernel matched time", "trained surrogate", "white-box"}
    assert {(r["width"], r["source"]) for r in rows} == {(w, s) for w in (16, 256) for s in sources}
    agreement = {r["width"]: r["agreement"] for r in rows}
    assert agreement[256] > 0.85  # a wide network and the machine of its own time predict alike


def test_all_features_together_are_the_machine(record):
    full = record.table("top_k")[-1]
    clean = next(r for r in record.table("attack_curve") if r["eps"] == 0)
    assert full["k"] == 60
    assert full["accuracy"] == clean["accuracy"]


def test_adversarial_and_standard_training_start_together(record):
    start = [r for r in record.table("dynamics") if r["epoch"] == 0]
    assert start[0]["trace"] == start[1]["trace"]
    assert record.array("dynamics/distance_standard").shape == (5, 5)


def test_the_same_seed_gives_the_same_record(record, tmp_path):
    spec = Spec.parse(SMALL | {"features": None, "dynamics": None})
    again = run(spec, tmp_path / "again")
    for name in ("attack_curve", "lazy", "gallery"):
        assert again.table(name) == record.table(name)


def test_resume_goes_on_where_a_run_was_cut(tmp_path):
    spec = Spec.parse(SMALL | {"features": None, "dynamics": None})

    def cut(stage: str, share: float) -> None:
        if stage == "lazy":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "run", watch=cut)
    assert Record.open(tmp_path / "run").stages == ["data", "attack"]
    seen: list[str] = []
    record = run(spec, tmp_path / "run", resume=True, watch=lambda stage, share: seen.append(stage))
    assert set(seen) == {"lazy"}
    assert record.done("lazy")
    with pytest.raises(InputError, match="another experiment"):
        run(Spec.parse(SMALL | {"seed": 5}), tmp_path / "run", resume=True)


def test_ten_classes(tmp_path):
    spec = SMALL | {"data": {"name": "fashion-mnist-mini", "train": 60, "test": 30}, "dynamics": None}
    record = run(Spec.parse(spec), tmp_path / "ten")
    assert record.table("data")[0]["classes"].startswith("T-shirt/top, Trouser")
    assert {c["verdict"] for c in record.table("claims")} >= {"not measured"}


def test_stages_that_are_not_asked_for_are_not_run():
    assert planned(Spec.parse({"attack": {}})) == ["data", "attack"]
    assert planned(demo_spec()) == ["data", "attack", "lazy", "features", "dynamics"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attack": {"eps": -1}}, r"`attack\.eps` does not fit"),
        ({"attack": {"norm": "l7"}}, r"`attack\.norm` does not fit"),
        ({"colour": 1}, "`colour` does not fit"),
        ({"device": "cuda"}, "is not there; use --device cpu"),
    ],
)
def test_specs_that_do_not_fit(values, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(Spec.parse(values), tmp_path / "run")


@pytest.mark.parametrize(("text", "message"), [(None, "does not exist"), ("a = [", "not readable as TOML")])
def test_files_that_are_no_specs(text, message, tmp_path):
    path = tmp_path / "spec.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        Spec.read(path)


def test_the_papers_transfer_study_takes_other_images():
    spec = paper_spec("transfer", {"name": "digits"}, seed=3)
    assert planned(spec) == ["data", "attack", "lazy", "transfer"]
    assert (spec.data.name, spec.data.classes, spec.seed) == ("digits", None, 3)
    assert paper_spec("transfer", {"train": 50}).data.classes == (2, 4)


def test_the_paper_radius_is_that_of_the_data_unless_one_is_given():
    assert paper_spec("features").attack.eps == pytest.approx(8 / 255)
    assert paper_spec("features", {"name": "mnist"}).attack.eps == pytest.approx(0.1)
    assert paper_spec("features", {"name": "mnist"}, eps=0.2).attack.eps == pytest.approx(0.2)


def test_over_training_and_out_of_the_lazy_regime(tmp_path):
    """At the network's own time its gradients are the kernel's more than at t = inf, and a large rate opens the gap."""
    values = {
        "data": {"classes": [2, 4], "train": 120, "test": 60},
        "attack": {"curve": []},
        "lazy": {
            "widths": [256],
            "seeds": 1,
            "steps": 60,
            "checkpoints": [10, 60],
            "regimes": ["lazy", "large learning rate", "standard parametrisation", "cross-entropy, SGD"],
            "regime_epochs": 3,
        },
    }
    record = run(Spec.parse(values), tmp_path / "run")
    steps = {(r["steps"], r["source"]): r for r in record.table("lazy_steps")}
    assert {s for s, _ in steps} == {10, 60}
    assert steps[60, "kernel matched time"]["cosine"] > steps[60, "kernel t=inf"]["cosine_high"]
    kinds = {r["regime"]: r for r in record.table("lazy_regimes")}
    assert len(kinds) == 4
    assert kinds["large learning rate"]["value"] > kinds["lazy"]["high"]
    assert kinds["lazy"]["cosine"] > kinds["large learning rate"]["cosine"]
    (c2,) = (row for row in record.table("claims") if row["claim"] == "C2")
    assert c2["would_decide"] == "networks of a second width"
    parts = [row for row in record.table("claim_parts") if row["claim"] == "C2"]
    assert [row["measure"].partition(":")[0] for row in parts] == [
        "lazy regime",
        "standard parametrisation",
        "cross-entropy, SGD",
    ]
    assert [row["decides"] for row in parts] == [True, False, False]


def test_features_and_what_networks_learn_from_them(tmp_path):
    """Networks that saw the first features only are more robust than those that saw all, and than a random projection."""
    values = {
        "data": {"classes": [2, 4], "train": 200, "test": 100},
        "attack": {"curve": [], "steps": 4},
        "features": {
            "steps": 3,
            "scored": 60,
            "compare": ["fc3"],
            "compare_train": 120,
            "compare_test": 50,
            "subspace": 8,
            "trade_off": 4,
            "frames": 3,
            "learning_steps": 50,
            "learning_width": 256,
            "robust_networks": ["small-cnn"],
            "robust_ranks": [5],
            "robust_seeds": 2,
            "robust_epochs": 150,
        },
    }
    spec = Spec.parse(values)
    record = run(spec, tmp_path / "run")
    verdicts = {r["claim"]: r["verdict"] for r in record.table("claims")}
    assert all(verdicts[c] != "not measured" for c in ("C3", "C4", "C5", "C6"))
    rows = {(r["trained_on"], r["projected"]): r for r in record.table("robust_data")}
    robust = rows["features: first 5", "labels"]["robust_accuracy"]
    assert robust > rows["original", "nothing"]["robust_accuracy"] + 0.1
    randoms = [r for r in record.table("robust_data") if r["trained_on"] == "random" and r["rank"] == 5]
    assert robust > max(r["robust_accuracy"] for r in randoms)
    knobs = record.table("trade_off")
    assert [r["knob"] for r in knobs] == ["ridge"] * 4 + ["time"] * 4
    late, full = knobs[-1], record.table("top_k")[-1]
    assert late["robust_accuracy"] == pytest.approx(full["robust_accuracy"], abs=0.03)
    stretches = record.table("bands")
    assert sum(r["count"] for r in stretches) == 200
    assert stretches[-1]["last"] == 199
    kinds = [r["category"] for r in stretches]
    assert "useful non-robust" in kinds, "features that are too weak one by one are useful together, and fragile"
    assert stretches[0]["first"] == 0
    pairs = {r["measure"]: r for r in record.table("consistency")}
    assert pairs["cosine of matched pictures"]["value"] > pairs["cosine of matched pictures"]["null_high"]
    path = export_robust_data(spec, record, tmp_path / "robust.npz")
    assert load_dataset(str(path)).train.x.shape == (200, 1, 28, 28)
    assert write_animation(record, tmp_path / "features.gif").stat().st_size > 1000
    assert "Networks trained on the data set as it is" in render(record)
