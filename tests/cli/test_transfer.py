import json

from cli.process import ntklens


def test_transfer_ends_with_who_is_fooled_by_whom(tmp_path):
    small = ["--classes", "2,4", "--train", "100", "--test", "40", "--sample", "60", "--epochs", "2", "--seeds", "2"]
    which = ["--surrogates", "noise,ntk:fc1", "--victims", "fc1"]
    process = ntklens("transfer", *small, *which, "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["transfer_means"]
    assert [r["surrogate"] for r in rows] == ["clean", "noise", "ntk:fc1", "white-box"]
    assert all(r["seeds"] == 2 for r in rows)
    assert "Who is fooled" in (tmp_path / "out" / "report.html").read_text()
