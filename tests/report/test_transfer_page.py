"""What the section on transfer says of intervals, of frames, of weights, and of who is fooled."""

import pytest
from matplotlib.patches import Rectangle

from ntklens.record import Record
from ntklens.report.figures import style, transfer
from ntklens.report.sections.attack import attack_section
from ntklens.report.sections.transfer import transfer_section
from ntklens.study.transfer_answer import transfer_answer

MINE, FILE = "mine.py:build", "mine.py:build@best.pt"
SOURCES = {"clean": 0.8, "noise": 0.78, "ntk:fc1": 0.6, f"ntk:{MINE}": 0.7, f"entk:{MINE}": 0.66, f"net:{MINE}+mi": 0.4}


def made(tmp_path, victims=(MINE,), *, interval=(0.0, 1.0), given="", extra=()):
    record = Record.create(tmp_path / "run", "transfer", "Transfer", {}, {})
    low, high = interval
    names = SOURCES | dict.fromkeys(extra, 0.5) | {"white-box": 0.1}
    record.tables["transfer_means"] = [
        {"surrogate": name, "victim": victim, "seeds": 2, "accuracy": value, "accuracy_low": low, "accuracy_high": high}
        | {"fooled": 0.8 - value, "fooled_low": 0.0, "fooled_high": 1.0}
        for victim in victims
        for name, value in names.items()
    ]
    record.tables["transfer_cost"] = [
        {
            "surrogate": name,
            "fitting_seconds": 0.2,
            "attack_seconds": 0.1,
            "training_gradients": 0,
            "attack_gradients": 9,
        }
        for name in names
        if name != "clean"
    ]
    record.tables["transfer_meta"] = [
        {"eps": 8 / 255, "norm": "linf", "steps": 10, "loss": "margin", "seeds": 2, "epochs": 5, "sample": 50}
        | {"train": 80, "test": 40, "width": 64, "given": given}
    ]
    return record


def drawn(figure):
    with style.styled():
        figure.draw_without_rendering()
    return figure


def cells(record):
    return [text.get_text() for text in drawn(transfer.heat_map(record.table("transfer_means"))).axes[0].texts]


def test_a_cell_has_its_interval_and_not_half_of_a_clipped_one(tmp_path):
    assert cells(made(tmp_path / "a", interval=(0.4, 1.0)))[0] == "80.0 [40.0, 100.0]"
    assert cells(made(tmp_path / "b", interval=(0.0, 1.0)))[0] == "80.0 [?]"
    assert cells(made(tmp_path / "c", interval=(None, None)))[0] == "80.0"


def test_the_frames_stand_where_the_images_are_of_the_victims_architecture(tmp_path):
    record = made(tmp_path, (MINE, FILE, "fc1"))
    axes = drawn(transfer.heat_map(record.table("transfer_means"))).axes[0]
    frames = [patch.get_xy() for patch in axes.patches if isinstance(patch, Rectangle)]
    found = {(round(y + 0.46), round(x + 0.48)) for x, y in frames}
    rows = list(SOURCES)
    own = {(rows.index(name), column) for name in rows[3:] for column in (0, 1)} | {(rows.index("ntk:fc1"), 2)}
    assert found == own | {(len(rows), column) for column in range(3)}


def test_a_tangent_kernel_has_the_weights_of_a_file_or_initial_ones(tmp_path):
    trained = transfer_section(made(tmp_path / "a")).text
    assert "with initial weights drawn from the seed" in trained
    assert "own weights" not in trained
    given = made(tmp_path / "b", (FILE,), given=FILE, extra=[f"entk:{FILE}"])
    assert f"tangent kernel of {FILE} with its own weights" in transfer_section(given).text
    assert "lies in its kernel" not in trained


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("fc3 kernel machine, t = ∞", "mean prediction of infinitely wide networks"),
        ("fc3 empirical kernel machine, t = ∞", "finite network with initial weights drawn from the seed."),
        (f"{MINE} empirical kernel machine, t = ∞", "drawn from the seed, unless its function gives it others."),
        (f"{FILE} empirical kernel machine, t = ∞", "finite network with the weights of its file."),
        ("saved.safetensors kernel machine, t = ∞", "a machine that was fitted and saved before."),
    ],
)
def test_the_attacked_machine_is_told_from_its_kernel(make_record, model, words):
    record = make_record(["attack"])
    record.tables["attack_curve"] = [row | {"model": model} for row in record.table("attack_curve")]
    assert words in attack_section(record).text


def test_the_first_words_say_who_is_fooled_by_whom(tmp_path):
    (text,) = transfer_answer(made(tmp_path / "a", interval=(0.3, 0.9)))
    assert text.startswith(
        f"At ε = 8/255 and as means over 2 trainings: {MINE} is right on 80.0 % [30.0, 90.0] of the clean"
    )
    assert f"40.0 % [30.0, 90.0] of those made on net:{MINE}+mi, the strongest of 4 surrogates" in text
    assert "60.0 % [30.0, 90.0] of those made on ntk:fc1, the best kernel of an untrained network" in text
    assert "78.0 % [30.0, 90.0] under noise of the same size" in text
    assert "10.0 % [30.0, 90.0] where they are made on the victim itself." in text
    assert "too few" not in text
    (text,) = transfer_answer(made(tmp_path / "b", [f"fc{n}" for n in range(1, 7)]))
    assert "[" not in text
    assert text.endswith("2 further victims are in the table. 2 seeds are too few for an interval where none is given.")
