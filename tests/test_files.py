import contextlib

import pytest

from ntklens.files import first_line, written_whole


def test_a_file_that_fails_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("earlier")
    with contextlib.suppress(KeyboardInterrupt), written_whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "earlier"
    with written_whole(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert not partial.exists()


@pytest.mark.parametrize(("error", "line"), [(ValueError("a\nb"), "a"), (ValueError(""), "ValueError")])
def test_the_first_line_of_an_error(error, line):
    assert first_line(error) == line
