"""Every option of every command against values that do not fit: exit code 2, one sentence, and nothing left behind.

The commands run in this process, on images of a few pixels, so that a value which slips through costs a second.
"""

import json
import re
import sys

import numpy as np
import pytest
import typer

from ntklens.cli import app, main

COMMANDS = typer.main.get_group(app).commands

SMALL = {
    "attack": ["--steps", "1"],
    "transfer": ["--surrogates", "noise", "--victims", "fc1", "--seeds", "1", "--epochs", "1", "--width", "4"],
    "features": ["--compare", "", "--scored", "2", "--pictured", "0"],
    "dynamics": ["--arch", "fc1", "--epochs", "2", "--width", "4", "--probe", "12", "--trainings", "standard"],
}
"""Options of a short run; a row's own option comes last and counts."""

NUMBER = ["", "x", "nan", "inf", "-1"]
COUNT = ["", "x", "0", "-1", "1.5", "nan"]
FILES = [
    f"{{files}}/{name}.npz" for name in ("nan", "infinite", "empty", "no_images", "negative", "gap", "one_class")
] + [f"{{files}}/{name}.npz" for name in ("too_few", "rank", "large", "integers", "no_labels", "objects", "damaged")]

VALUES = {
    "--data": ["", "nope", "missing.npz", "missing/folder", "{files}", "{files}/text.txt", *FILES],
    "--data-dir": ["{files}/text.txt", "missing"],
    "--classes": ["", "0", "0,0", "0,99", "-1,0", "nope,0", "0.5,1"],
    "--outputs": ["", "x", "-1", "1.5", "0,0", "0,9"],
    "--train": [*COUNT, "1", "99999"],
    "--test": [*COUNT, "99999"],
    "--size": COUNT,
    "--arch": ["", "nope", "fc", "fc0", "net:fc1"],
    "network": ["", "nope", "fc", "fc0", "net:fc1"],
    "--store": ["", "{files}", "{files}/text.txt", "/proc/tiles"],
    "--scheduler": ["", "host:8786"],
    "--workers": COUNT,
    "--memory-limit": ["", "x", "0", "-1", "nan", "4XB", "1kB"],
    "--precision": ["", "half", "64"],
    "--kind": ["", "rbf", "ntk,nngp"],
    "--w-std": [*NUMBER, "0"],
    "--b-std": NUMBER,
    "--ridge": NUMBER,
    "--top": [*COUNT, "99999"],
    "--eps": [*NUMBER, "8", "1/0", "8/255/2"],
    "--norm": ["", "l1", "2"],
    "--steps": COUNT,
    "--loss": ["", "nope", "dlr"],
    "--victim": [
        "",
        "missing.py:build",
        "missing.pt",
        "{files}/text.txt",
        "{files}/model.py:nope",
        "{files}/model.py:fails",
    ],
    "--weights": ["missing.safetensors", "{files}/text.txt"],
    "--kernel": ["", "nope", "ntk"],
    "--fail-under": ["", "x", "-1", "2", "nan"],
    "--junit": ["{files}", "{files}/text.txt/junit.xml", "missing/junit.xml"],
    "--surrogate": ["", "nope", "missing.py:build", "net:nope"],
    "--sample": [*COUNT, "1"],
    "--time": ["", "soon", "-1", "nan"],
    "--method": ["", "nope", "cw"],
    "--queries": COUNT,
    "--momentum": NUMBER,
    "--diversity": [*NUMBER, "2"],
    "--translation": ["", "x", "-1", "1.5", "2"],
    "--seed": ["", "x", "-1", "1.5"],
    "--device": ["", "cuda", "tpu"],
    "--out": ["{files}", "{files}/text.txt", "{files}/text.txt/run", "/proc/run"],
    "--surrogates": ["", "svm", "ntk:", "ntk:nope", "noise+mi", "linear+nope"],
    "--victims": ["", "vit"],
    "--seeds": COUNT,
    "--width": COUNT,
    "--epochs": COUNT,
    "--scored": COUNT,
    "--compare": ["nope", "fc0"],
    "--compare-train": COUNT,
    "--learning-steps": ["", "x", "-1", "1.5"],
    "--robust-networks": ["nope", "fc0"],
    "--robust-ranks": ["", "x", "0", "-1", "1.5", "99999"],
    "--export": ["{files}/text.txt/robust.npz", "{files}/nan.npz", "missing/robust.npz"],
    "--pictured": ["", "x", "-1", "1.5"],
    "--certified": ["", "x", "-1", "1.5"],
    "--frames": ["", "x", "-1", "1.5"],
    "--trainings": ["", "TRADES", "standard,standard"],
    "--learning-rate": [*NUMBER, "0"],
    "--probe": [*COUNT, "1", "99999"],
    "--lazy-threshold": [*NUMBER, "0"],
    "--linear-from": ["x", "-1", "1.5", "9", "1,1"],
    "--linear-epochs": ["", "x", "-1", "1.5"],
    "--machine-train": ["", "x", "-1", "1.5"],
    "--watch": ["missing", "{files}/text.txt"],
    "--model": ["missing.py:build"],
    "--patience": NUMBER,
    "experiment": ["", "missing.toml", "{files}/text.txt", "{files}/broken.toml", "{files}/unknown.toml"],
    "folder": ["", "missing", "{files}", "{files}/text.txt"],
    "kind": ["", "nope"],
    "--held-out": [*COUNT, "99999"],
    "--patch": [*COUNT, "7"],
    "--brightness": [*NUMBER, "2"],
    "--corner": ["", "middle"],
    "--target": ["", "nope", "-1", "99"],
    "--planted": ["", "x", "nan", "-1", "2"],
    "--bad": [*COUNT, "99999"],
    "--networks": ["nope", "fc0"],
    "first": [],
    "second": [],
}
"""Values that do not fit, by option, whichever command has it."""

BESIDE = {
    "--data-dir": ["--data", "mnist"],
    "--fail-under": ["--victim", "{files}/model.py:build"],
    "--outputs": ["--victim", "{files}/model.py:build"],
    "--junit": ["--victim", "{files}/model.py:build"],
    "--surrogate": ["--victim", "{files}/model.py:build"],
    "--time": ["--victim", "{files}/model.py:build", "--surrogate", "fc1"],
    "--sample": ["--victim", "{files}/model.py:build", "--surrogate", "fc1"],
    "--method": ["--victim", "{files}/model.py:build"],
    "--queries": ["--victim", "{files}/model.py:build", "--method", "square"],
    "--momentum": ["--victim", "{files}/model.py:build"],
    "--diversity": ["--victim", "{files}/model.py:build"],
    "--translation": ["--victim", "{files}/model.py:build"],
    "--robust-ranks": ["--robust-networks", "fc1"],
    "--export": ["--robust-networks", "fc1", "--robust-ranks", "1"],
    "--model": ["--watch", "{files}"],
    "--watch": ["--model", "{files}/model.py:build"],
}
"""Options without which another one is refused for that reason alone."""

BESIDE_OF = {
    ("fit", "--steps"): ["--learning-rate", "0.01"],
    ("certify", "--steps"): [],
    ("audit", "--seeds"): ["--networks", "fc1"],
    ("audit", "--width"): ["--networks", "fc1"],
    ("audit", "--epochs"): ["--networks", "fc1"],
    ("fit", "--learning-rate"): ["--time", "1"],
    ("fit", "--memory-limit"): ["--store", "tiles"],
    ("kernel", "--memory-limit"): ["--store", "tiles"],
    ("fit", "--weights"): ["{files}/model.py:build", "--kernel", "empirical"],
    ("kernel", "--weights"): ["{files}/model.py:build", "--kernel", "empirical"],
}
"""The same of single commands."""

AUDIT_OF = {
    **dict.fromkeys(("--patch", "--brightness", "--corner", "--target", "--bad"), "backdoor"),
    "--planted": "shortcut",
}
"""The audit that has an option."""

NAMES = {
    "network": r"architecture|network|\S*\.py",
    "--store": r"\S*/\S+|--store",
    "--data": r"data set|\S+\.npz|\S*/\S+|images",
    "--data-dir": r"\S*text.txt|mnist|missing",
    "--classes": "class",
    "--arch": r"architecture|\S*\.py",
    "--junit": r"junit|\S*/\S+",
    "--eps": "eps|ε",
    "--victim": r"victim|network|\S*\.p[yt]|fails|\S*/\S+",
    "--weights": r"weights|\S*text.txt|missing",
    "--surrogate": r"surrogate|architecture|\S*\.py",
    "--surrogates": "surrogate|architecture",
    "--victims": "victim|architecture",
    "--out": r"\S*/\S+|--out",
    "--compare": "architecture",
    "--networks": "architecture",
    "kind": "kind",
    "--target": "target|class",
    "--robust-networks": "architecture",
    "--export": r"\S*robust.npz|\S*nan.npz",
    "--watch": r"watch|missing|\S*text.txt|checkpoint",
    "--model": r"model|missing.py",
    "experiment": r"experiment|\S*\.toml|\S*\.txt|\S+ is not readable|. cannot be read",
    "folder": r"\S*record.json|folder",
}
"""What the sentence calls an option, as a regular expression, where that is not its name."""

NO_VALUE = {
    "--all",
    "--grey",
    "--rgb",
    "--overwrite",
    "--resume",
    "--json",
    "--checks",
    "--strict",
    "--png",
    "--quick",
    "--radius",
    "--help",
}
"""Options that are switches."""
LEFT_OUT = {
    ("data", "--data-dir"): "a list of what is there, in any folder",
    ("report", "--out"): "a file; see test_report",
    ("demo", "--out"): "as of `run`",
    ("compare", "first"): "needs the second beside it; see test_compare",
    ("compare", "second"): "needs the first beside it; see test_compare",
}
"""Options of commands that take any value, or that are tested elsewhere."""
FITS = {("kernel", "{files}/one_class.npz")}
"""Values that fit a command."""


def option_of(parameter) -> str:
    return next((name for name in parameter.opts if name.startswith("--")), parameter.name)


ROWS = [
    (name, option_of(parameter), value)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if (name, option_of(parameter)) not in LEFT_OUT
    for value in VALUES.get(option_of(parameter), ())
    if (name, value) not in FITS
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with data sets, networks and experiments that do not fit, and a small data set that does."""
    folder = tmp_path_factory.mktemp("files")
    g = np.random.default_rng(0)
    x, y = g.random((24, 6, 6)).astype(np.float32), np.arange(24) % 2
    fits = {"x_train": x, "y_train": y, "x_test": x[:12], "y_test": y[:12]}
    bad = {
        "nan": {"x_train": np.where(x > 0.9, np.nan, x)},
        "infinite": {"x_test": np.full_like(x[:12], np.inf)},
        "no_images": {"x_test": x[:0], "y_test": y[:0]},
        "negative": {"y_train": y - 1},
        "gap": {"y_train": 3 * y},
        "one_class": {"y_train": 0 * y, "y_test": 0 * y[:12]},
        "too_few": {"y_train": y[:-1]},
        "rank": {"x_train": x.reshape(24, -1), "x_test": x[:12].reshape(12, -1)},
        "large": {"x_train": 255 * x},
        "integers": {"x_train": (255 * x).astype(np.int64)},
        "no_labels": {"y_train": np.full(24, np.nan)},
        "objects": {"y_train": np.array([None] * 24)},
        "small": {},
    }
    for name, arrays in bad.items():
        np.savez(folder / f"{name}.npz", **(fits | arrays))
    np.savez(folder / "empty.npz")
    (folder / "damaged.npz").write_bytes((folder / "small.npz").read_bytes()[:-200])
    (folder / "text.txt").write_text("A text, and neither images nor a network.")
    (folder / "broken.toml").write_text("kind = ")
    (folder / "unknown.toml").write_text("nope = 1")
    (folder / "model.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))\n\n"
        "def fails():\n    raise KeyError(1)\n"
    )
    return folder


def left_in(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


@pytest.mark.parametrize(("command", "option", "value"), ROWS)
def test_one_sentence_exit_code_2_and_nothing_left_behind(command, option, value, files, tmp_path, monkeypatch, capsys):
    has = {option_of(parameter) for parameter in COMMANDS[command].params}
    if option == "--weights":  # of the one network that the command names
        flag = "--victim" if command == "attack" else "--arch"
        network = [flag, "{files}/model.py:build", *([] if command == "dynamics" else ["--kernel", "empirical"])]
        monkeypatch.setitem(BESIDE, option, network)
    if option == "--outputs" and command != "attack":
        monkeypatch.setitem(BESIDE, option, [])
    arguments = [command, *(SMALL.get(command, []) if option not in ("--watch", "--model") else [])]
    if command == "audit" and option != "kind":
        arguments.append(AUDIT_OF.get(option, "unlearnable"))
    if "--data" in has:
        arguments += ["--data", str(files / "small.npz")]
    if command in ("attack", "features", "dynamics") or option == "--data-dir":
        arguments += BESIDE.get(option, [])
    arguments += BESIDE_OF.get((command, option), [])
    if "experiment" in has and option != "experiment":
        arguments += ["transfer" if command == "paper" else "{files}/small.toml"]
    if command == "kernel" and option not in ("--out", "--store", "--memory-limit"):
        arguments += ["--out", "out.npz"]
    elif "--out" in has and option != "--out" and command not in ("report", "kernel"):
        arguments += ["--out", "out"]
    if option.startswith("--"):
        arguments.append(f"{option}={value}")
    else:
        arguments.append(value)
    (files / "small.toml").write_text(f"[data]\nname = {json.dumps(str(files / 'small.npz'))}\n")
    before = left_in(files)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(sys, "argv", ["ntklens", *(a.replace("{files}", str(files)) for a in arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2, printed
    sentence = re.split("[Ee]rror: ", " ".join(printed.err.split()), maxsplit=1)[-1]
    assert "Traceback" not in printed.err
    names = NAMES.get(option, re.sub("-", "[-_ ]", option.lstrip("-")))
    assert re.search(rf"(?<!\w)({names})", sentence), sentence
    assert sentence.endswith((".", "?")) or sentence.startswith("Invalid value"), sentence  # the latter is Typer's own
    assert left_in(tmp_path) == []
    assert left_in(files) == before


def test_the_table_has_every_option():
    options = {option_of(parameter) for command in COMMANDS.values() for parameter in command.params}
    assert options == set(VALUES) | NO_VALUE - {"--help"}
