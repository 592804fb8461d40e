import pytest

from cli.process import SMALL, ntklens


@pytest.fixture(scope="session")
def finished_attack(tmp_path_factory):
    """The folder of a finished `ntklens attack`, and its process."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    return folder, ntklens("attack", *SMALL, "--out", folder)
