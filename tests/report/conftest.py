"""Records like those of real runs, with drawn numbers, so that every figure can be seen without computing anything."""

import numpy as np
import pytest

from ntklens.record import Record, provenance
from ntklens.schema import bounds, check_tables
from ntklens.statistics import proportion
from ntklens.vocabulary import FRAGILE, PARTLY, ROBUST, USELESS

STAGES = ("attack", "victim", "lazy", "transfer", "features", "dynamics")
N = 200
SOURCES = {"clean": 0.82, "noise": 0.81, "kernel t=inf": 0.77, "kernel matched time": 0.71, "trained surrogate": 0.76}
CATEGORIES = (ROBUST, FRAGILE, PARTLY, USELESS)


def share(value, name="accuracy"):
    return proportion(round(N * min(max(value, 0), 1)), N).row(name)


def both(clean, robust):
    return {**share(clean), **share(robust, "robust_accuracy"), "n": N}


def certified_tables():
    """Machines and features with both ends of their robust accuracy."""
    last = {
        "head": (0.85, 0.72, 0.71),
        "ridge 1e-2 λ_1": (0.84, 0.74, 0.7),
        "all": (0.9, 0.1, 0.02),
        "tail": (0.7, 0, 0),
    }
    rows = [
        {"machine": name, "eps": part * 8 / 255, "undecided": 3, **share(clean)}
        | share(clean - part * (clean - attacked), "robust_accuracy")
        | share(clean - part * (clean - proved), "certified_accuracy")
        | {"n": N}
        for name, (clean, attacked, proved) in ({**last, "first 50": (0.86, 0.6, 0.55)}).items()
        for part in ((0.25, 0.5, 1) if name in last else (1,))
    ]
    singles = [
        {"index": i, **share(0.6, "usefulness"), **share(0.5 / (1 + i), "robustness")}
        | share(0.45 / (1 + i), "certified")
        | {"n": N}
        for i in range(12)
    ]
    meta = {
        "majority": 0.5,
        "eps": 8 / 255,
        "norm": "linf",
        "steps": 40,
        "n": N,
        "head": 20,
        "about": "About machines.",
    }
    return {"certified": rows, "certified_features": singles, "certified_meta": [meta]}


def add_stage(record, name, tables, arrays=None, seconds=0.1):
    """Add a stage whose tables have the columns of real ones."""
    check_tables(name, tables)
    record.add_stage(name, tables=tables, arrays=arrays, seconds=seconds)


def images(rng, count, channels):
    """Soft blobs in [0, 1] of shape (count, channels, 28, 28)."""
    grid = np.linspace(-1, 1, 28)
    centre, width = rng.uniform(-0.4, 0.4, (count, channels, 2, 1, 1)), rng.uniform(0.2, 0.7, (count, channels, 1, 1))
    distance = (grid[:, None] - centre[:, :, 0]) ** 2 + (grid[None, :] - centre[:, :, 1]) ** 2
    return np.exp(-distance / width**2).astype(np.float32)


def data_stage(record, classes, channels):
    row = {"name": "drawn", "classes": ", ".join(classes), "train": 800, "test": N, "shape": f"{channels}x28x28"}
    add_stage(
        record, "data", {"data": [row | {"fingerprint": "0f" * 32, "licence": "CC0", "notes": "Left out: 1 file."}]}
    )


def attack_stage(record, classes, channels, rng, norm="linf"):
    radii = [e / 255 for e in (0, 2, 4, 8, 16, 32)] if norm == "linf" else [0.0, 0.5, 1.0, 2.0]
    drop = {"noise": 0.05, "fgsm": 0.8, "pgd": 0.85}
    curve = [
        {"model": "fc1 kernel machine, t = ∞", "attack": a, "norm": norm, "eps": e, "n": N}
        | share(0.88 - d * min(1, e / radii[-2]))
        for a, d in drop.items()
        for e in radii
    ]
    x = images(rng, 5, channels)
    eps = radii[3]
    arrays = {"gallery_x": x, "gallery_adv": (x + eps * np.sign(rng.normal(size=x.shape))).clip(0, 1)}
    gallery = examples(classes, eps, norm)
    effect = {"comparison": "noise minus one step", "eps": eps, "value": 0.7, "low": 0.6, "high": 0.8, "n": N}
    tables = {"attack_curve": curve, "gallery": gallery, "attack_effect": [effect]}
    add_stage(record, "attack", tables, arrays, seconds=3.2)


def examples(classes, eps, norm):
    return [
        {"index": i, "label": a, "prediction": a, "adversarial_prediction": b, "eps": eps, "norm": norm}
        for i, (a, b) in enumerate([classes, classes[::-1]] * 2 + [classes])
    ]


def victim_stage(record, classes, channels, rng, norm="linf"):
    cost = {"norm": norm, "eps": 8 / 255, "queries": 0, "gradient_evaluations": N}
    cost |= {"fitting_seconds": 1.5, "attack_seconds": 0.4, "attack": "pgd"}
    kinds = {"clean": "clean", "noise": "noise", "fc3": "kernel", "net:small-cnn": "trained", "white-box": "white box"}
    accuracies = dict(zip(kinds, (0.8, 0.79, 0.4, 0.6, 0.35), strict=True))
    rows = [
        {"source": name, "kind": kinds[name], **cost, **share(value), "rounded_accuracy": value, "fooled": 0.8 - value}
        for name, value in accuracies.items()
    ]
    meta = {"victim": "net.py:net", "strongest": "white-box", "test": N, "files": False, "outputs": 10, "classes": 2}
    meta |= {**share(0.3, "worst_accuracy"), "asked": 1700, "scoring_queries": 600, "check_queries": 100}
    meta |= {"repeated_queries": 0}
    source = {"source": "fc3", "kind": "kernel", "sample": 500, "queries": 1000, "time": 12.5, "search_fooled": 0.4}
    check = {
        "of": "surrogate fc3",
        "check": "varied outputs",
        "passed": False,
        "images": N,
        "seen": "The outputs are all alike.",
    }
    effect = {"first": "noise", "second": "fc3", "eps": 8 / 255, "value": 0.4, "low": 0.3, "high": 0.5, "n": N}
    x = images(rng, 5, channels)
    tables = {
        "victim": rows,
        "victim_effect": [effect],
        "victim_sources": [source],
        "victim_notes": [{"source": "white-box", "text": "The white box leaves some images as they are."}],
        "victim_meta": [meta],
        "victim_gallery": examples(classes, 8 / 255, norm),
        "victim_checks": [check, check | {"passed": True, "seen": "Noise is answered like the images."}],
    }
    add_stage(record, "victim", tables, {"gallery_x": x, "gallery_adv": 1 - x}, seconds=2.0)


SURROGATES = {"clean": 0.85, "noise": 0.84, "rbf": 0.7, "ntk:fc3": 0.6, "net:fc2": 0.55, "net:fc2+mi": 0.5}


def transfer_stage(record):
    rows = [
        {"surrogate": name, "victim": victim, "seed": seed, "eps": 8 / 255, "n": N}
        | share(value - 0.02 * seed)
        | share(0.85 - value, "fooled")
        for victim in ("fc2", "small-cnn")
        for seed in range(2)
        for name, value in (SURROGATES | {"white-box": 0.3}).items()
    ]
    means = [
        {"surrogate": name, "victim": victim, "seeds": 2, **share(value), **share(0.85 - value, "fooled")}
        for victim in ("fc2", "small-cnn")
        for name, value in (SURROGATES | {"white-box": 0.3}).items()
    ]
    costs = [
        {"surrogate": name, "fitting_seconds": 0.2, "attack_seconds": 0.1 * (i + 1)}
        | {"training_gradients": 0, "attack_gradients": N}
        for i, name in enumerate([*SURROGATES, "white-box"])
        if name != "clean"
    ]
    meta = {"eps": 8 / 255, "norm": "linf", "steps": 10, "loss": "margin", "seeds": 2, "epochs": 5}
    meta |= {"sample": 500, "train": 800, "test": N, "width": 64, "given": ""}
    tables = {"transfer": rows, "transfer_means": means, "transfer_cost": costs, "transfer_meta": [meta]}
    add_stage(record, "transfer", tables, seconds=9.5)


def cosine(source, value):
    """A source that comes from a model has one; images that nobody attacked, noise and the white box have none."""
    if source in ("clean", "noise", "white-box"):
        return {}
    return {"cosine": value, "cosine_low": value - 0.05, "cosine_high": value + 0.05}


def lazy_stage(record, rng):
    rows = [
        {"victim": f"width {w}, seed {s}", "width": w, "seed": s, "source": name, "eps": 8 / 255, "n": N}
        | share(value + rng.normal(0, 0.02))
        | {"agreement": 0.9, **cosine(name, 1 - 8 / w)}
        for w, own in ((64, 0.36), (256, 0.58), (1024, 0.68))
        for s in range(3)
        for name, value in (SOURCES | {"white-box": own}).items()
    ]
    over_both = {"value": 0.4, "low": 0.3, "high": 0.5, "n": N, "seeds": 3, "seed_share": 0.1}
    effect = {"width": 64, "first": "noise", "second": "white-box"} | over_both
    cost = [{"source": s, "seconds": 0.5, "gradient_evaluations": N} for s in SOURCES if s != "clean"]
    meta = {"steps": 150, "learning_rate": 0.001, "seeds": 3}
    tables = {"lazy": rows, "lazy_effect": [effect], "lazy_cost": cost, "lazy_meta": [meta]}
    tables["lazy_narrowing"] = [{"narrowest": 64, "widest": 1024} | over_both]
    tables["lazy_steps"] = [
        {"steps": step, "seed": 0, "width": 1024, "source": name, "accuracy": value, **cosine(name, 1 - 0.002 * step)}
        for step in (10, 50, 150)
        for name, value in (SOURCES | {"white-box": 0.68}).items()
        if name not in ("noise", "trained surrogate")
    ]
    shares = {"clean": 0.82, "noise": 0.81, "kernel": 0.72, "white_box": 0.7}
    gap = over_both | {"beyond_noise": 0.1, "beyond_noise_low": 0.05, "beyond_noise_high": 0.15}
    tables["lazy_regimes"] = [
        {"regime": name, "width": 1024, **shares, **gap, "cosine": 0.9} for name in ("lazy", "large rate")
    ]
    add_stage(record, "lazy", tables, seconds=15.6)


def features_stage(record, classes, channels, rng, count=150):
    eigenvalues = 700.0 / np.arange(1, count + 1) ** 1.4
    rows = []
    for i in range(count):
        useful = 0.5 + 0.25 * np.exp(-i / 20) * rng.uniform(-0.3, 1) + rng.normal(0, 0.03)
        row = {"index": i, "eigenvalue": eigenvalues[i], "label_energy": 1 / count, **share(useful, "usefulness")}
        row |= {**share(useful * np.exp(-i / 15), "robustness"), "one_step": useful, "by_half": CATEGORIES[i % 4]}
        rows.append(row | {"category": CATEGORIES[i % 4]})
    sizes = (1, 2, 5, 10, 20, 50, 100, count)
    top = [{"k": k, **both(0.9 - 0.4 / k**0.5, 0.7 - 0.1 * abs(np.log(k / 10)))} for k in sizes]
    chosen, columns = (0, 1, 5, 50), (*classes, *classes)
    pictured = [{k: rows[i][k] for k in ("index", "usefulness", "robustness")} for i in chosen]
    pair = {"kernel_a": "fc1", "kernel_b": "fc3"}
    overlap = {"measure": "overlap of the top 20 eigenspaces", "value": 0.9, "low": None, "high": None}
    ranks = {"measure": "rank correlation of robustness", "value": 0.8, "low": 0.7, "high": 0.87}
    agreement = [pair | overlap | {"null_low": 0.1, "null_high": 0.2}, pair | ranks | dict.fromkeys(NULL)]
    agreement = [row | {"n": None} for row in agreement]
    knobs = [
        {
            "knob": knob,
            "value": 10.0**p,
            "label_energy": 0.1 * p,
            **both(0.8, 0.5),
        }
        for knob in ("time", "ridge")
        for p in range(4)
    ]
    sets = [{"features": name, "count": 7, "label_energy": 0.2, **both(0.7, 0.4)} for name in ("all", *CATEGORIES)]
    stretches = [
        {"first": first, "last": last, "count": last - first + 1, "label_energy": 0.3, "category": name}
        | both(0.7, 0.4)
        for (first, last), name in zip(((0, 0), (1, 9), (10, 99), (100, 149)), CATEGORIES, strict=True)
    ]
    head_tail = [
        {"features": name, "first": first, "last": last, "count": last - first + 1, "label_energy": 0.3}
        | both(clean, robust)
        | share(robust / clean, "survives")
        for name, first, last, clean, robust in (
            ("head", 0, 19, 0.85, 0.72),
            ("tail", 20, count - 1, 0.67, 0.01),
            ("all", 0, count - 1, 0.91, 0.1),
        )
    ]
    steps = [
        {"step": step, "first": first, "last": last, "label_energy": 0.4, "network": 0.1 * step, "kernel": 0.12 * step}
        for step in (1, 3, 8)
        for first, last in ((0, 0), (1, 9), (10, 99))
    ]
    by_class = [{"class": c, "images": 40, "robust and useful": 0.1, "useful non-robust": -0.02} for c in classes]
    carriers = [
        {"features": kind, "index": i, "label": classes[0], "share": 0.01} for kind in CATEGORIES[:2] for i in range(4)
    ]
    networks = [
        {"network": "fc1", "trained_on": name, "projected": "labels", "rank": 5, "seeds": 3} | both(0.8, 0.5) | {"n": n}
        for name, n in (("original", N), ("features: robust and useful", N // 2), ("random", N))
    ]
    tables = {
        "trade_off": knobs,
        "subsets": sets,
        "bands": stretches,
        "learning": steps,
        "learning_meta": [{"width": 512, "learning_rate": 0.01, "value": 0.9, "low": 0.8, "high": 0.95, "n": 50}],
        "attribution": by_class,
        "carriers": carriers,
        "robust_data": networks,
        **certified_tables(),
        "side_by_side": [{"kernel": "fc1"}, {"kernel": "conv2"}],
        "features": rows,
        "features_meta": [{"majority": 0.5, "eps": 8 / 255, "norm": "linf", "n": N, "steps": 10}],
        "spectrum_meta": [{"n": count, "effective_rank": 4.3, "trace": float(eigenvalues.sum())}],
        "top_k": top,
        "head_tail": head_tail,
        "head_tail_effect": [
            {"first": "all", "second": "head", "attacked": True, "value": -0.4, "low": -0.5, "high": -0.3, "n": N}
        ],
        "head_tail_meta": [
            {
                "k": 20,
                "rank": count,
                "n_chosen": N,
                "n": N,
                "majority": 0.5,
                "eps": 8 / 255,
                "norm": "linf",
                "steps": 10,
            }
        ],
        "head_choice": [{"k": k, **share(0.6, "robust_accuracy"), "n": N} for k in (1, 20)],
        "consistency": agreement,
        "picture_rows": pictured,
        "picture_columns": [{"index": j, "label": label} for j, label in enumerate(columns)],
        "frames": [{k: rows[i][k] for k in ("index", "usefulness", "robustness")} for i in chosen[:2]],
    }
    arrays = {
        "eigenvalues": eigenvalues,
        "label_energy": np.cumsum(rng.dirichlet(1 / np.arange(1, count + 1))),
        "carriers_robust": images(rng, 4, channels),
        "carriers_fragile": images(rng, 4, channels),
        "side_by_side": rng.normal(size=(2, 3, channels, 28, 28)),
        "side_by_side_image": images(rng, 1, channels),
        "picture_images": images(rng, len(columns), channels),
        "head_and_tail": rng.normal(size=(2, len(columns), channels, *images(rng, 1, channels).shape[2:])),
        "frames": rng.normal(size=(2, channels, 28, 28)),
        "pictures": rng.normal(size=(len(chosen), len(columns), channels, 28, 28)) * images(rng, 1, 1)[0],
    }
    add_stage(record, "features", tables, arrays, seconds=66.7)


NULL = bounds("null")


def dynamics_stage(record, rng, epochs=12):
    rows, arrays = [], {}
    for training, speed in (("standard", 0.15), ("FGSM", 0.2), ("PGD", 0.3)):
        place = 1 - np.exp(-speed * np.arange(epochs + 1))
        for t, x in enumerate(place):
            row = {"training": training, "seed": 0, "epoch": t, "train_loss": None if t == 0 else 1 - x}
            row |= share(0.5 + 0.4 * x, "accuracy") | share(0.5 + 0.2 * x, "robust_accuracy")
            row |= {
                "velocity": None if t == 0 else 0.1 * (1 - x),
                "concentration": 1 - 0.02 * x,
                "trace": 300 * (1 + x),
            }
            row |= {"centred_rank": 2 + 9 * x, "distance_to_end": None if t == epochs else (1 - x) ** 2}
            row |= {"distance_with_noise": (1 - x) ** 2 + 0.01}
            row |= {"effective_rank": 2 + 20 * x, "alignment": 0.1 + 0.3 * x, "specialisation": 0.2}
            row |= {"probe_loss": 0.7 - 0.5 * x, "probe_accuracy": 0.5 + 0.4 * x, "adversarial_trace": 320.0}
            row |= {"one_step_accuracy": 0.55 + 0.2 * x, "adversarial_cosine": 0.9 - 0.3 * (t == 9)}
            for part, turn in (("", 0.6), ("_top", 0.5), ("_bottom", 1.1)):
                row |= {f"radius{part}": x / place[-1], f"angle{part}": turn * x + abs(rng.normal(0, 0.02))}
            rows.append(row)
        arrays[f"distance_{training}"] = np.abs(place[:, None] - place[None, :]) * speed
    meta = {
        "top_k": 10,
        "probe": 100,
        "lazy_threshold": 0.03,
    }
    meta |= {"architecture": "small-cnn", "attack_steps": 7, "eps": 8 / 255, "seeds": 1, "tracker_share": 0.1}
    lazy = [
        {"training": name, "seed": 0, "threshold": 0.03, "epoch": e} for name, e in (("standard", 9.0), ("PGD", None))
    ]
    settled = [
        {"training": name, "seed": 0, "epoch": e, "area": 3.0, "last_epoch": epochs, "learned_epoch": 5.0}
        | {"first_epoch": 0.0, "settled": name == "FGSM"}
        | {"distance_when_learned": 0.1, "centred_rank": 11.0, **share(0.9), **share(0.7, "robust_accuracy")}
        for name, e in (("standard", 6.4), ("FGSM", 4.2), ("PGD", None))
    ]
    equal = [
        {"training": name, "seed": 0, "accuracy": 0.87, "epoch": 5.5, "centred_rank": 9.0}
        for name in ("standard", "PGD")
    ]
    continued = [
        {"training": name, "seed": 0, "from_epoch": epoch, "linearised": data} | both(0.6, 0.4) | {"pgd_accuracy": 0.55}
        for name in ("standard", "PGD")
        for epoch, data in ((2, "standard"), (2, "PGD"), (8, "standard"), (8, "PGD"), (12, "not"))
    ]
    machines = [
        {"training": name, "seed": 0, "fitted_on": 400, **both(0.7, 0.3), "pgd_accuracy": 0.3}
        | {"feature_usefulness": 0.6, "feature_robustness": 0.4}
        for name in ("none", "standard", "PGD")
    ]
    alarm = {
        "training": "FGSM",
        "seed": 0,
        "kind": "catastrophic overfitting",
        "epoch": 9.0,
        "text": "The tangents have parted.",
    }
    advice = [alarm, {"training": "PGD", "seed": 0, "kind": "moving", "epoch": 12.0, "text": "The kernel still moves."}]
    tables = {
        "dynamics": rows,
        "dynamics_meta": [meta],
        "settling": settled,
        "equal_accuracy": equal,
        "lazy_epochs": lazy,
        "continued": continued,
        "kernel_machines": machines,
        "advice": advice,
    }
    add_stage(record, "dynamics", tables, arrays, seconds=17.3)


JUDGED = {
    "measure": "the accuracy of the head",
    "estimate": 0.8,
    "low": 0.7,
    "high": 0.9,
    "side": "above",
    "margin": 0.5,
    "unit": "share",
}
UNJUDGED = dict.fromkeys(JUDGED)


def claims_stage(record, verdicts):
    rows = [
        {
            "claim": f"C{i}",
            "statement": "A statement about kernels.",
            "verdict": verdict,
            "figure": "12.0 points [8.0, 16.0]",
            **(UNJUDGED if verdict == "not measured" else JUDGED),
            "would_decide": "about 900 test images" if verdict == "cannot tell" else "",
        }
        for i, verdict in enumerate(verdicts, 1)
    ]
    parts = [
        {"claim": "C3", "verdict": verdict, "decides": True, "would_decide": "", **JUDGED} for verdict in verdicts[:2]
    ]
    tables = {"claims": rows, "claim_parts": parts, "summary": [{"text": "What this run says, in plain words."}]}
    add_stage(record, "claims", tables)


@pytest.fixture
def make_record(tmp_path):
    """Build a record: make_record(stages, classes=..., channels=..., norm=...)."""

    def make(stages=STAGES, classes=("T-shirt/top", "Shirt"), channels=1, norm="linf"):
        rng = np.random.default_rng(0)
        record = Record.create(tmp_path / "run", "demo", "A drawn study", {}, provenance(seed=3, data="0f" * 32))
        data_stage(record, classes, channels)
        if "attack" in stages:
            attack_stage(record, classes, channels, rng, norm)
        if "victim" in stages:
            victim_stage(record, classes, channels, rng, norm)
        if "lazy" in stages:
            lazy_stage(record, rng)
        if "transfer" in stages:
            transfer_stage(record)
        if "features" in stages:
            features_stage(record, classes, channels, rng)
        if "dynamics" in stages:
            dynamics_stage(record, rng)
        claims_stage(record, ["seen"] * 4 + ["contradicted", "cannot tell"] + ["not measured"] * 2)
        return record

    return make


@pytest.fixture
def record(make_record):
    """A whole study."""
    return make_record()
