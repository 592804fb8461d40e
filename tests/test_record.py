import json

import numpy as np
import pytest

from ntklens.errors import InputError
from ntklens.record import Record, provenance


@pytest.fixture
def record(tmp_path):
    return Record.create(tmp_path / "run", "test", "A title", {"seed": 1}, provenance(seed=1, data="abc"))


def test_what_is_written_is_read_again(record):
    array = np.arange(6.0).reshape(2, 3)
    record.add_stage("one", tables={"t": [{"a": 1, "b": np.float32(0.5), "c": None}]}, arrays={"m": array}, seconds=1.5)
    again = Record.open(record.folder)
    assert again.stages == ["one"]
    assert again.table("t") == [{"a": 1, "b": 0.5, "c": None}]
    assert np.array_equal(again.array("one/m"), array)
    assert again.provenance["seconds"] == {"one": 1.5}


def test_what_is_not_finite_is_none(record):
    record.add_stage("one", tables={"t": [{"a": float("nan"), "b": float("inf")}]})
    assert Record.open(record.folder).table("t") == [{"a": None, "b": None}]
    assert "NaN" not in (record.folder / "record.json").read_text()


def test_a_table_holds_plain_scalars(record):
    with pytest.raises(TypeError, match="plain scalars"):
        record.add_stage("one", tables={"t": [{"a": [1]}]})


def test_an_existing_folder_is_kept(record):
    with pytest.raises(InputError, match=r"exists; choose another --out"):
        Record.create(record.folder, "test", "", {}, {})
    assert Record.open(record.folder).title == "A title"


def test_overwrite_replaces_a_run_and_nothing_else(record, tmp_path):
    assert Record.create(record.folder, "test", "New", {}, {}, overwrite=True).title == "New"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not the folder of a run"):
        Record.create(precious, "test", "", {}, {}, overwrite=True)
    assert (precious / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "not readable as JSON"),
        ('{"schema": 99}', "schema 3"),
        ("[]", "schema 3"),
        ('{"schema": 3}', "lacks"),
        (
            '{"schema": 3, "kind": "", "title": "", "spec": {}, "provenance": {}, "stages": [], "tables": 5}',
            "lacks tables",
        ),
    ],
)
def test_what_is_not_a_record_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Record.open(tmp_path)


def test_a_missing_array_is_named(record):
    with pytest.raises(InputError, match="no array one/m"):
        record.array("one/m")


@pytest.mark.parametrize("damage", [b"", b"not a zip file", b"half"])
def test_a_damaged_array_file_is_named(record, damage):
    record.add_stage("one", arrays={"m": np.arange(1000.0)})
    path = record.folder / "arrays" / "one.npz"
    path.write_bytes(path.read_bytes()[:300] if damage == b"half" else damage)
    with pytest.raises(InputError, match=r"one\.npz is damaged"):
        record.array("one/m")


def test_pickled_objects_are_not_loaded(record):
    (record.folder / "arrays").mkdir()
    np.savez(record.folder / "arrays" / "one.npz", m=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="is damaged"):
        record.array("one/m")


def test_a_file_is_not_a_folder_of_a_run(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(InputError, match="cannot be read"):
        Record.open(file)
    with pytest.raises(InputError, match="exists"):
        Record.create(file, "test", "", {}, {})
    with pytest.raises(InputError, match="not the folder of a run"):
        Record.create(file, "test", "", {}, {}, overwrite=True)
    with pytest.raises(InputError, match="cannot be written"):
        Record.create(file / "run", "test", "", {}, {})
    assert file.read_text() == "mine"


def test_an_array_is_there_or_not(record):
    record.add_stage("one", arrays={"m": np.zeros(2)})
    assert record.has("one/m")
    assert not record.has("one/n")
    assert not record.has("two/m")


def test_provenance_says_what_ran_where():
    values = provenance(seed=7, data="abc")
    assert values["versions"]["numpy"] == np.__version__
    assert (values["seed"], values["data"]) == (7, "abc")
    json.dumps(values, allow_nan=False)


def test_a_stage_cut_short_is_not_done(record, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(KeyboardInterrupt):
        record.add_stage("one", arrays={"m": np.zeros(2)})
    monkeypatch.undo()
    assert not Record.open(record.folder).done("one")


def test_a_run_that_cannot_be_written_leaves_the_earlier_one(record, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ntklens.files.os.replace", fail)
        with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
            Record.create(record.folder, "test", "New", {}, {}, overwrite=True)
    assert Record.open(record.folder).title == "A title"
    assert [path.name for path in record.folder.parent.iterdir()] == ["run"]
