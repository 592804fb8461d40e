"""The tables that real runs write have the columns of the schema, all of them and no others."""

from ntklens.schema import TABLES
from ntklens.study import Spec, run

NETWORK = """
from torch import nn


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 2))


class Hard(nn.Sequential):
    def forward(self, x):
        return nn.functional.one_hot(super().forward(x).argmax(1), 2).float()


def hard():
    return Hard(*network())
"""
DATA = {"name": "fashion-mnist-mini", "classes": [7, 9], "train": 120, "test": 199}
EVERYTHING = {
    "data": DATA,
    "attack": {"curve": [0.0, 0.1], "steps": 2, "gallery": 2},
    "lazy": {"widths": [8, 16], "seeds": 1, "steps": 4, "checkpoints": [2], "regimes": ["lazy"]},
    "transfer": {"surrogates": ["linear"], "victims": ["fc2"], "seeds": 1, "sample": 40, "width": 8, "epochs": 1},
    "features": {
        "top_k": [1, 5, 10],
        "compare": ["fc2"],
        "subspace": 4,
        "images": 2,
        "compare_images": 2,
        "frames": 2,
        "trade_off": 2,
        "learning_steps": 4,
        "learning_width": 16,
        "robust_networks": ["fc1"],
        "robust_ranks": [3],
        "robust_seeds": 1,
        "robust_epochs": 1,
        "certified": 4,
        "certified_radii": [1.0],
        "certified_features": 2,
    },
    "dynamics": {
        "trainings": ["standard", "FGSM", "PGD"],
        "epochs": 3,
        "attack_steps": 2,
        "probe": 20,
        "top_k": 4,
        "linear_from": [1],
        "linear_epochs": 1,
        "machine_train": 40,
        "machine_test": 20,
        "queries": 3,
    },
}


def columns(record):
    return {name: {key for row in rows for key in row} for name, rows in record.tables.items() if rows}


def test_every_column_of_the_schema_is_written_by_some_run_and_no_other_is(tmp_path):
    (tmp_path / "net.py").write_text(NETWORK)
    victim = {"path": f"{tmp_path}/net.py:network", "surrogates": ["fc1", "white-box"], "sample": 20, "time": "search"}
    written = columns(run(Spec.parse(EVERYTHING | {"victim": victim}), tmp_path / "run"))
    matched = run(Spec.parse({"data": DATA, "victim": victim | {"time": "match", "checks": False}}), tmp_path / "match")
    for name, keys in columns(matched).items():
        written[name] = written.get(name, set()) | keys
    hard = victim | {"path": f"{tmp_path}/net.py:hard", "time": "cross-entropy"}
    for name, keys in columns(run(Spec.parse({"data": DATA, "victim": hard}), tmp_path / "hard")).items():
        written[name] = written.get(name, set()) | keys
    # Whether an untrained network is fooled by images of a surrogate is left to chance.
    listed = {name: table.every for tables in TABLES.values() for name, table in tables.items()}
    written.setdefault("victim_gallery", listed["victim_gallery"])
    assert written == listed
