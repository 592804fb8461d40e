"""A record with every stage, made of plausible random numbers: the report cannot tell, and no kernel is computed."""

import numpy as np
import pytest

from ntklens.record import Record, provenance

CLASSES = ("Pullover", '<script>alert("x")</script>')


def accuracy(rng: np.random.Generator, prefix: str = "", name: str = "accuracy") -> dict[str, float]:
    value = float(rng.uniform(0.1, 0.9))
    return {name: value, f"{prefix}low": value - 0.05, f"{prefix}high": value + 0.05}


def make_record(folder, channels: int = 1) -> Record:
    rng = np.random.default_rng(0)
    record = Record.create(folder, "test", "A run & its <report>", {}, provenance(seed=0, data="f" * 64))
    row = {"name": "mini", "classes": ", ".join(CLASSES), "train": 80, "test": 20, "shape": "1x28x28"}
    record.add_stage("data", tables={"data": [row | {"fingerprint": "f" * 64, "licence": "MIT"}]}, seconds=0.1)

    curve = [
        {"model": "fc1 machine", "attack": a, "norm": "linf", "eps": e / 255, **accuracy(rng), "n": 20}
        for a in ("noise", "fgsm", "pgd")
        for e in (0, 4, 8)
    ]
    names = {"label": CLASSES[0], "prediction": CLASSES[0], "adversarial_prediction": CLASSES[1]}
    gallery = [{"index": i, **names, "eps": 8 / 255, "norm": "linf"} for i in range(3)]
    images = rng.random((3, channels, 28, 28))
    record.add_stage(
        "attack",
        tables={
            "attack_curve": curve,
            "attack_effect": [{"eps": 8 / 255, "value": 0.5, "low": 0.4, "high": 0.6, "n": 20}],
            "gallery": gallery,
        },
        arrays={"gallery_x": images, "gallery_adv": np.clip(images + 0.03, 0, 1)},
        seconds=1.0,
    )

    sources = ("clean", "noise", "kernel t=inf", "kernel matched time", "trained surrogate", "white-box")
    transfer = [
        {
            "victim": "v",
            "width": w,
            "seed": s,
            "source": src,
            "eps": 8 / 255,
            **accuracy(rng),
            "n": 20,
            "agreement": 0.9,
        }
        for w in (64, 256)
        for s in (0, 1)
        for src in sources
    ]
    record.add_stage(
        "transfer",
        tables={
            "transfer": transfer,
            "transfer_effect": [
                {"width": w, "first": "noise", "second": "kernel matched time", "value": 0.1, "low": 0.0, "high": 0.2}
                for w in (64, 256)
            ],
            "transfer_cost": [{"source": "noise", "seconds": 0.1, "gradient_evaluations": 0}],
            "transfer_meta": [{"steps": 150, "learning_rate": 0.01, "seeds": 2}],
        },
        seconds=2.0,
    )

    features = [
        {"index": i, "eigenvalue": 1 / (i + 1), **accuracy(rng, "usefulness_", "usefulness")}
        | accuracy(rng, "robustness_", "robustness")
        | {"category": "not useful"}
        for i in range(30)
    ]
    record.add_stage(
        "features",
        tables={
            "features": features,
            "features_meta": [{"majority": 0.5, "eps": 8 / 255, "norm": "linf", "n": 20}],
            "spectrum_meta": [{"n": 80, "effective_rank": 3.0, "trace": 9.0}],
            "top_k": [
                {"k": k, **accuracy(rng), "n": 20, **accuracy(rng, "robust_", "robust_accuracy")} for k in (1, 10, 80)
            ],
            "consistency": [
                {"kernel_a": "fc1", "kernel_b": "fc3", "measure": "overlap", "value": 0.9, "null_low": None}
            ],
            "picture_rows": [{k: features[i][k] for k in ("index", "usefulness", "robustness")} for i in (0, 9)],
            "picture_columns": [{"index": 0, "label": CLASSES[0]}, {"index": 1, "label": CLASSES[1]}],
        },
        arrays={
            "eigenvalues": 1 / np.arange(1, 81),
            "label_energy": np.linspace(0, 1, 80),
            "picture_images": images[:2],
            "pictures": rng.normal(size=(2, 2, channels, 28, 28)),
        },
        seconds=3.0,
    )

    measures = ("velocity", "concentration", "effective_rank", "trace", "alignment")
    polar = [f"{m}{part}" for m in ("radius", "angle") for part in ("", "_top", "_bottom")]
    dynamics = [
        {"training": t, "epoch": e, "train_loss": None if e == 0 else 0.5}
        | accuracy(rng, "accuracy_")
        | accuracy(rng, "robust_", "robust_accuracy")
        | {m: None if m == "velocity" and e == 0 else float(rng.uniform(0.01, 1)) for m in measures}
        | dict.fromkeys(polar, e / 5)
        for t in ("standard", "adversarial")
        for e in range(6)
    ]
    meta = {"top_k": 10, "probe": 20, "lazy_threshold": 0.01, "architecture": "small-cnn", "attack_steps": 7}
    record.add_stage(
        "dynamics",
        tables={"dynamics": dynamics, "dynamics_meta": [meta | {"eps": 8 / 255}]},
        arrays={f"distance_{t}": rng.random((6, 6)) for t in ("standard", "adversarial")},
        seconds=4.0,
    )
    claims = [
        {"claim": f"C{i}", "statement": "A claim.", "verdict": v, "figure": "12.3 % [1.0, 2.0]"}
        for i, v in enumerate(["seen"] * 6 + ["not seen here", "not measured here"], 1)
    ]
    record.add_stage("claims", tables={"claims": claims, "summary": [{"text": "Half of it & <more>."}]})
    return record


@pytest.fixture(scope="session", params=[1, 3], ids=["grey", "colour"])
def record(request, tmp_path_factory) -> Record:
    return make_record(tmp_path_factory.mktemp("report") / "run", request.param)
