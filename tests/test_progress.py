import pytest

from ntklens.progress import Progress


def test_a_part_of_a_part_is_scaled_into_the_whole():
    shares = []
    half = Progress(shares.append).part(0.5, 0.5)
    half(0.0)
    half.part(0.5, 0.5).step(1, 2)
    half(1.0)
    assert shares == pytest.approx([0.5, 0.875, 1.0])


def test_without_a_receiver_nothing_is_reported():
    assert Progress()(0.5) is None
