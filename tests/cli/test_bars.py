"""Progress of a run, with a clock that the tests move."""

import io

import pytest
from rich.console import Console

from ntklens.cli.bars import Bars, Lines, seconds_left


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def lines():
    clock, printed = Clock(), []
    return clock, printed, Lines(printed.append, clock)


@pytest.mark.parametrize(
    ("elapsed", "share", "estimated", "expected"),
    [
        (0, 0, None, None),  # nothing is known
        (5, 0, 100, 95),
        (150, 0, 100, 0),  # later than expected, and nothing was reported
        (50, 0.5, None, 50),
        (100, 0.5, 100, 75),  # twice as slow as expected: the whole is taken as 150
        (99, 0.99, 1000, 1.09),  # near the end the measurement counts
    ],
)
def test_what_is_left_is_told_by_the_estimate_first_and_by_the_work_later(elapsed, share, estimated, expected):
    assert seconds_left(elapsed, share, estimated) == (None if expected is None else pytest.approx(expected))


def test_off_a_terminal_one_line_comes_a_minute(lines):
    clock, printed, watch = lines
    watch.expect("This takes about 5 minutes.", {"attack": 300.0})
    watch("attack", 0.0)
    for second in range(0, 300, 10):
        clock.now = float(second)
        watch("attack", second / 300)
    clock.now = 300.0
    watch("attack", 1.0)
    assert printed == [
        "This takes about 5 minutes.",
        "attack: started",
        "attack: 20 % done, about 4 minutes left",
        "attack: 40 % done, about 3 minutes left",
        "attack: 60 % done, about 2 minutes left",
        "attack: 80 % done, about 60 seconds left",
        "attack: done",
    ]


def test_lines_come_while_nothing_is_reported(lines):
    clock, printed, watch = lines
    watch("features", 0.0)
    clock.now = 61.0
    watch.tick()
    watch.tick()
    assert printed[1:] == ["features: 0 % done"]


def test_nothing_is_said_before_a_stage_and_after_the_last(lines):
    clock, printed, watch = lines
    clock.now = 100.0
    watch.tick()
    assert not printed
    watch("data", 1.0)
    clock.now = 300.0
    watch.tick()
    assert printed == ["data: started", "data: done"]


def test_a_share_does_not_go_back(lines):
    clock, printed, watch = lines
    watch("attack", 0.5)
    clock.now = 60.0
    watch("attack", 0.4)
    assert printed[-1] == "attack: 50 % done, about 60 seconds left"


def test_no_bar_stands_on_a_terminal_where_nothing_has_begun():
    stream = io.StringIO()
    with Bars(["data", "attack"], Console(file=stream, force_terminal=True)):
        pass
    assert stream.getvalue() == ""


def test_a_terminal_has_the_sentence_above_a_bar_per_stage():
    stream = io.StringIO()
    with Bars(["data", "attack"], Console(file=stream, force_terminal=True, width=100)) as bars:
        bars.expect("This takes about 2 minutes.", {"attack": 120.0})
        bars("data", 1.0)
        bars("attack", 0.5)
    text = stream.getvalue()
    assert text.index("This takes about 2 minutes.") < text.index("attack")
    assert "50 %" in text
    assert "left" in text
