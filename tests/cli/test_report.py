from cli.process import ntklens


def test_report_renders_again(finished_attack, tmp_path):
    folder, _ = finished_attack
    process = ntklens("report", folder, "--out", tmp_path / "again.html")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()


def test_folders_of_trackers_have_a_report(tmp_path):
    import ntklens as nl
    from ntklens.networks import build

    data = nl.load_dataset("digits", classes=[3, 8]).first(40, 20)
    for name in ("one", "two"):
        tracker = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / name)
        tracker.record(build("fc1", (1, 8, 8), 2, width=8), 0)
    assert ntklens("report", tmp_path / "one").returncode == 0
    assert "KernelTracker" in (tmp_path / "one" / "report.html").read_text()
    nowhere = ntklens("report", tmp_path / "one", tmp_path / "two")
    assert nowhere.returncode == 2
    assert "--out says where the page of several folders goes" in " ".join(nowhere.stderr.split())
    both = ntklens("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both.html")
    assert both.returncode == 0, both.stderr
    other = ntklens("report", tmp_path / "one", tmp_path, "--out", tmp_path / "none.html")
    assert other.returncode == 2
    assert "expected one run, or several folders of KernelTrackers" in " ".join(other.stderr.split())
