import pytest

from ntklens.backup import Backup
from ntklens.errors import InputError


@pytest.fixture
def folder(tmp_path):
    """A folder with one file, `text`, that says "first"."""
    write(tmp_path / "run", "first")
    return tmp_path / "run"


def write(folder, text):
    folder.mkdir()
    (folder / "text").write_text(text)


def contents(folder):
    """The text in each folder beside the given one, by the folder's name."""
    return {path.name: (path / "text").read_text() for path in folder.parent.iterdir()}


def test_a_folder_without_a_backup_stays_as_it_is(folder):
    backup = Backup(folder)
    assert not backup.exists
    assert backup.restore() is None
    backup.discard()
    assert contents(folder) == {"run": "first"}


def test_discarding_leaves_the_new_folder_alone(folder):
    backup = Backup(folder)
    backup.take()
    write(folder, "second")
    assert contents(folder) == {"run": "second", "run.before": "first"}
    backup.discard()
    assert contents(folder) == {"run": "second"}


def test_restoring_keeps_what_the_failed_run_did(folder):
    for failed in ("run.failed-1", "run.failed-2"):
        backup = Backup(folder)
        backup.take()
        write(folder, failed)
        assert backup.restore() == folder.with_name(failed)
    assert contents(folder) == {"run": "first", "run.failed-1": "run.failed-1", "run.failed-2": "run.failed-2"}
    assert [path.name for path in folder.iterdir()] == ["text"]


def test_restoring_can_drop_the_failed_run(folder):
    backup = Backup(folder)
    backup.take()
    write(folder, "second")
    assert backup.restore(keep_failed=False) is None
    assert contents(folder) == {"run": "first"}


def test_a_killed_run_is_replaced_and_the_finished_one_kept(folder):
    Backup(folder).take()
    write(folder, "killed")
    Backup(folder).take()
    write(folder, "third")
    assert contents(folder) == {"run": "third", "run.before": "first"}


def test_a_folder_that_only_has_the_name_of_a_backup_is_refused(folder):
    write(folder.with_name("run.before"), "mine")
    with pytest.raises(InputError, match=r"run\.before is in the way"):
        Backup(folder).take()
    Backup(folder).discard()
    assert contents(folder) == {"run": "first", "run.before": "mine"}
