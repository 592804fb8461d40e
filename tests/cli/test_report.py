from cli.process import ntklens


def test_report_renders_again(finished_attack, tmp_path):
    folder, _ = finished_attack
    process = ntklens("report", folder, "--out", tmp_path / "again.html")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "again.html").read_text() == (folder / "report.html").read_text()
