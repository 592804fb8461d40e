import pytest

from ntklens.progress import FirstOfTwo, Parts, Progress


def test_a_part_of_a_part_is_scaled_into_the_whole():
    shares = []
    half = Progress(shares.append).part(0.5, 0.5)
    half(0.0)
    half.part(0.5, 0.5).step(1, 2)
    half(1.0)
    assert shares == pytest.approx([0.5, 0.875, 1.0])


def test_without_a_receiver_nothing_is_reported():
    assert Progress()(0.5) is None


def test_parts_share_the_whole_by_their_weights_and_keep_their_seconds():
    shares, now = [], iter([0.0, 3.0, 3.0, 4.0])
    parts = Parts(Progress(shares.append), {"fit": 3.0, "attack": 1.0}, lambda: next(now))
    with parts("fit") as progress:
        progress(0.5)
    with parts("attack") as progress:
        progress(0.5)
    assert shares == pytest.approx([0.375, 0.75, 0.875, 1.0])
    assert parts.seconds == {"fit": 3.0, "attack": 1.0}


def test_parts_that_take_no_time_are_parts():
    shares = []
    with Parts(Progress(shares.append), {"fit": 0.0})("fit") as progress:
        progress(1.0)
    assert shares == [0.0, 0.0]


def test_turns_share_their_parts_and_never_go_back():
    shares = []
    parts = Parts(Progress(shares.append), {"fit": 1.0, "attack": 1.0})
    for turn in range(2):
        with parts.turn(turn, 2):
            if turn == 0:  # the second turn attacks alone
                with parts("fit") as progress:
                    progress(0.5)
            with parts("attack") as progress:
                progress(0.5)
    assert shares == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.875, 1.0])


def test_a_first_piece_is_shared_by_its_own_speed_and_never_goes_back():
    shares, now = [], iter([0.0, 1.0, 4.0, 4.5])
    report = FirstOfTwo(shares.append, 2.0, lambda: next(now))
    for share in (0.0, 0.5, 0.6, 1.0):
        report(share)
    # 1 s for half: 2 s in all of it, and 2 s more; 4 s for 60 %: 4 / (6.67 + 2); 4.5 s for all: 4.5 / 6.5.
    assert shares == pytest.approx([0.0, 0.25, 4 / (4 / 0.6 + 2), 4.5 / 6.5])
