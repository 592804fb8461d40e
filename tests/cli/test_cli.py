"""What all commands have in common: help, refusals in one sentence, and what they load for these."""

import subprocess
import sys

import pytest
import typer

from cli.process import ntklens
from ntklens import cli
from ntklens.cli import app

VERBS = {"Attack", "Compare", "Find", "Fit", "List", "Measure", "Prove", "Render", "Run", "Test", "Write"}
"""First words of the commands' descriptions."""


@pytest.mark.parametrize(
    "verb",
    [
        None,
        "demo",
        "data",
        "fit",
        "kernel",
        "attack",
        "certify",
        "audit",
        "transfer",
        "features",
        "dynamics",
        "paper",
        "run",
        "report",
        "compare",
    ],
)
def test_help_has_an_example(verb):
    process = ntklens(*([verb] if verb else []), "--help")
    assert process.returncode == 0
    assert "Example:" in process.stdout


@pytest.mark.parametrize("verb", typer.main.get_group(app).commands.values(), ids=lambda verb: verb.name)
def test_every_help_text_is_a_sentence(verb):
    """The sentence of an option starts with a capital letter and ends with a full stop; that of a command has a verb."""
    texts = {parameter.name: parameter.help for parameter in verb.params if parameter.name != "help"}
    assert {name for name, text in texts.items() if not (text and text[0].isupper() and text.endswith("."))} == set()
    assert verb.help.split()[0] in VERBS


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["attack", "--help"], 0),
        (["features", "--help"], 0),
        (["attack", "--eps", "x"], 2),
        (["attack", "--surrogate", "fc3"], 2),
        (["dynamics", "--linear-from", "x"], 2),
        (["transfer", "--nonsense"], 2),
        (["fit", "--steps", "3"], 2),
        (["kernel", "--out", "kernel.txt"], 2),
        (["audit", "nope"], 2),
        (["audit", "backdoor", "--planted", "0.5"], 2),
    ],
)
def test_help_and_refused_options_load_no_library(arguments, code):
    script = (
        "import sys\nfrom ntklens.cli import main\ntry:\n    main()\nfinally:\n"
        "    print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert process.returncode == code
    loaded = process.stdout.partition("LOADED")[2].split()
    assert "typer" in loaded
    assert {"torch", "numpy", "scipy", "numba", "matplotlib"} & set(loaded) == set()


WRONG = {
    "unknown data set": (["attack", "--data", "imagenet"], "expected a data set out of"),
    "missing file": (["attack", "--data", "missing.npz"], "missing.npz does not exist"),
    "unknown class": (["attack", "--classes", "0,77"], "has no class 77"),
    "one class": (["attack", "--classes", "3"], "two or more different classes"),
    "unknown architecture": (["attack", "--arch", "vit"], "expected an architecture"),
    "negative radius": (["attack", "--eps", "-1"], "--eps does not fit"),
    "radius in pixel steps": (["attack", "--eps", "8"], "pixels lie in [0, 1]"),
    "endless radius": (["attack", "--eps", "inf"], "should be a finite number"),
    "radius not a number": (["attack", "--eps", "big"], "a number or a fraction such as 8/255"),
    "unknown norm": (["attack", "--norm", "l1"], "--norm does not fit"),
    "more images than there are": (["attack", "--train", "99999"], "from 1 to 6000"),
    "no cuda": (["attack", "--device", "cuda"], "use --device cpu"),
    "no run": (["report", "nowhere"], "does not exist; give the folder"),
    "unknown surrogate": (["transfer", "--surrogates", "svm"], "expected noise, linear"),
    "unknown victim": (["transfer", "--victims", "vit"], "expected an architecture"),
    "a victim that is not there": (["attack", "--victim", "nowhere.py:build"], "nowhere.py does not exist"),
    "a surrogate without a victim": (["attack", "--surrogate", "fc3"], "needs a --victim"),
    "an option without a victim": (["attack", "--method", "square"], "need a --victim"),
    "an export of nothing": (["features", "--export", "a.npz"], "--export needs --robust-networks"),
    "ranks of nothing": (["features", "--robust-ranks", "5"], "--robust-ranks needs --robust-networks"),
    "no ranks at all": (
        ["features", "--robust-networks", "fc1", "--robust-ranks", ""],
        "--robust-ranks: expected whole numbers from 1",
    ),
    "no ranks": (
        ["features", "--robust-networks", "fc1", "--robust-ranks", "some"],
        "--robust-ranks: expected whole numbers from 1",
    ),
    "a watch that would train": (
        ["dynamics", "--watch", ".", "--model", "m.py:f", "--epochs", "3", "--arch", "fc1"],
        "architecture, epochs would have no effect; leave them out",
    ),
    "a watch without a network": (["dynamics", "--watch", "."], "give both or neither"),
    "no epochs": (["dynamics", "--linear-from", "first"], "--linear-from: expected whole numbers from 0"),
    "an epoch too late": (["dynamics", "--epochs", "5", "--linear-from", "9"], "takes epochs from 0 to 5"),
    "unknown training": (["dynamics", "--trainings", "TRADES"], "`dynamics.trainings.0` does not fit"),
    "more probes than images": (
        ["dynamics", "--test", "50", "--probe", "80"],
        "expected a `probe` of at most 50 test images; got 80",
    ),
    "more top eigenvectors than probes": (["dynamics", "--probe", "8"], "Give 11 or more probe images"),
    "unknown network": (["dynamics", "--arch", "vit"], "expected an architecture"),
    "no such paper": (["paper", "diffusion"], "must be one of transfer, features"),
    "a time of nothing": (["attack", "--victim", "a.pt", "--time", "5"], "--time needs a --surrogate"),
    "no time": (["attack", "--victim", "a.pt", "--surrogate", "fc1", "--time", "soon"], "or a number from 0 on"),
    "no experiment": (["run", "nowhere.toml"], "nowhere.toml does not exist"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_sentence_and_exit_code_2(name, tmp_path):
    arguments, message = WRONG[name]
    out = (
        ["--out", str(tmp_path / "out")]
        if arguments[0] in ("attack", "run", "transfer", "features", "dynamics", "paper")
        else []
    )
    process = ntklens(*arguments, *out)
    assert process.returncode == 2
    assert message in " ".join(process.stderr.split())
    assert "Traceback" not in process.stderr
    assert not (tmp_path / "out").exists()


def test_a_field_that_does_not_fit_is_called_by_its_option():
    message = "the experiment's `attack.eps` does not fit: Input should be greater than or equal to 0; got -1.0."
    named = "--eps does not fit: Input should be greater than or equal to 0; got -1.0."
    assert cli._in_options(message, ["ntklens", "attack", "--eps=-1"]) == named
    assert cli._in_options(message, ["ntklens", "run", "mine.toml"]) == message
    assert cli._in_options("--eps: another message", ["--eps"]) == "--eps: another message"
