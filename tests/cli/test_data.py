import json

from cli.process import ntklens


def test_data_lists_what_there_is():
    process = ntklens("data", "--json")
    rows = {r["name"]: r for r in json.loads(process.stdout)}
    assert rows["fashion-mnist-mini"]["files"] == "with the package"
    assert set(rows) >= {"digits", "mnist", "fashion-mnist", "cifar10"}


def test_the_folder_of_the_files_is_told(tmp_path):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").touch()
    process = ntklens("data", "--data-dir", tmp_path)
    assert process.returncode == 0, process.stderr
    assert "data sets" in process.stdout
    rows = {r["name"]: r for r in json.loads(ntklens("data", "--data-dir", tmp_path, "--json").stdout)}
    assert rows["cifar10"]["files"] == str(tmp_path / "cifar10")
