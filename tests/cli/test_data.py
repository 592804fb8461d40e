import json

from cli.process import ntklens


def test_data_lists_what_there_is():
    process = ntklens("data", "--json")
    rows = {r["name"]: r for r in json.loads(process.stdout)}
    assert rows["fashion-mnist-mini"]["files"] == "with the package"
    assert set(rows) >= {"digits", "mnist", "fashion-mnist", "cifar10"}
