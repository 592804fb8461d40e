import json

from cli.process import ntklens
from data.test_cifar import cifar_archive


def test_features_end_with_a_data_set_of_their_own(tmp_path):
    small = ["--classes", "2,4", "--train", "80", "--test", "40", "--compare", "", "--scored", "20"]
    robust = ["--robust-networks", "fc1", "--robust-ranks", "5", "--export", tmp_path / "robust.npz", "--frames", "2"]
    process = ntklens("features", *small, *robust, "--out", tmp_path / "out", "--json")
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout)
    assert results["subsets"][0]["features"] == "all"
    assert {r["trained_on"] for r in results["robust_data"]} >= {"original", "features: first 5", "random"}
    assert (tmp_path / "out" / "features.gif").exists()
    again = ntklens("attack", "--data", tmp_path / "robust.npz", "--ridge", "0.1", "--out", tmp_path / "again")
    assert again.returncode == 0, again.stderr


def test_the_papers_features_on_a_stand_in_of_cifar10(tmp_path):
    """The command of the README on an archive of noise: colour images, chosen features, all of them scored."""
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", each=60)
    which = ["--data", "cifar10", "--data-dir", tmp_path, "--classes", "airplane,automobile", "--eps", "8/255"]
    options = ["--pictured", "0,1,2", "--compare", "", "--ridge", "0.01", "--out", tmp_path / "out", "--json"]
    process = ntklens("features", *which, *options)
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout)["picture_rows"]
    assert [r["index"] for r in rows] == [0, 1, 2]
    assert all(0 <= r["robustness"] <= r["usefulness"] <= 1 for r in rows)
