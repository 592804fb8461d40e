import io
import json
import sys

import pytest
from rich.console import Console

from ntklens.cli import characters, console
from ntklens.cli.characters import replace_what_cannot_be_shown

ROWS = [
    {
        "training": name,
        "seed": 0,
        "robust_accuracy": 0.25,
        "robust_accuracy_low": 0.2,
        "robust_accuracy_high": 0.3,
        "n": n,
    }
    for name, n in (("standard", 500), ("PGD", 200))
]


@pytest.fixture
def printed(monkeypatch):
    """(width, call) -> what a terminal of that width shows."""

    def show(width, call):
        stream = io.StringIO()
        for name in ("out", "err"):
            monkeypatch.setattr(console, name, Console(file=stream, width=width))
        call()
        return stream.getvalue()

    return show


def test_a_table_that_fits_is_whole(printed):
    text = printed(100, lambda: console.table("machines", ROWS)).splitlines()
    assert text[0] == "machines"
    assert "│ standard │    0 │             25.0 % [20.0, 30.0] │ 500 │" in text


def test_a_wide_table_tells_once_what_all_rows_share(printed):
    text = printed(40, lambda: console.table("machines", ROWS))
    assert "in all rows: seed 0, robust accuracy [95 % interval] 25.0 % [20.0, 30.0]" in text
    assert "│ standard │ 500 │" in text


@pytest.mark.parametrize("width", [34, 40, 50])
def test_no_word_of_a_table_is_broken(printed, width):
    rows = [row | {"robust_accuracy": 0.2 + place / 10} for place, row in enumerate(ROWS)]
    text = printed(width, lambda: console.table("machines", rows))
    for word in ("training", "accuracy", "interval]", "standard", "[20.0,", "30.0]"):
        assert word in text
    assert max(map(len, text.splitlines())) <= width


def test_characters_of_two_cells_have_room(printed):
    rows = [{"class": "日本語の服", "accuracy": 0.5}, {"class": "x", "accuracy": 0.6}]
    assert "日本語の服" in printed(29, lambda: console.table("t", rows))


def test_where_no_column_has_room_a_row_is_a_paragraph(printed):
    rows = [row | {"robust_accuracy": 0.2 + place / 10} for place, row in enumerate(ROWS)]
    text = printed(20, lambda: console.table("machines", rows)).splitlines()
    assert text[-1] == "  training: PGD; robust accuracy [95 % interval]: 30.0 % [20.0, 30.0]; n: 200"


def test_one_row_keeps_its_columns(printed):
    assert "in all rows" not in printed(30, lambda: console.table("machines", ROWS[:1]))


def test_off_a_terminal_a_stage_is_told_once(printed):
    def call():
        with console.progress(["data", "features"]) as watch:
            for stage, share in (("data", 0.0), ("data", 1.0), ("data", 1.0), ("features", 0.0), ("features", 0.5)):
                watch(stage, share)

    text = printed(80, call)
    events = [line for line in text.splitlines() if line.endswith(("started", "done"))]
    assert events == ["data: started", "data: done", "features: started"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding_shows_sentences_and_keeps_values(encoding, monkeypatch):
    """Characters have plain forms where a pipe or a code page lacks them, and JSON has equal values."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    replace_what_cannot_be_shown()
    monkeypatch.setattr(console, "out", Console(width=200))
    value = {"sentence": "λ ≤ ∞ in ‘日本’", "file": "caf\udce9.pt", "number": 0.5}
    console.say("ε = 8/255 → ∞, 日 \udce9")
    console.as_json(value)
    stream.flush()
    first, _, rest = stream.buffer.getvalue().decode(encoding).partition("\n")
    assert first == ("ε = 8/255 → ∞, 日 ?" if encoding == "utf-8" else "eps = 8/255 -> inf, ? ?")
    assert json.loads(rest) == value


def test_plain_forms_are_plain():
    assert all(len(c) == 1 and form.isascii() for c, form in characters._PLAIN.items())
