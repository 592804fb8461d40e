"""The benchmarks' rows, processes and comparisons; nothing is timed here."""

import subprocess
from dataclasses import asdict, replace

import pytest
from benchmarks import compare, kernels_beside_peer, ours
from benchmarks.__main__ import main
from benchmarks.common import ROOT, network
from benchmarks.rounds import Failed, Ratio, Side, in_turns, our_side, ratio
from benchmarks.works import WORKS, chosen

from ntklens import analytic_kernel

ANSWER = {"seconds": 2.0, "pairs": 4, "bare": 1.0, "large": 0.25, "added": 3.0, "result": 1.0, "peak_gb": 0.5}


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "file").write_text("text")
    name = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "file"], [*name, "commit", "--quiet", "-m", "One"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def worktrees(repository):
    command = ["git", "worktree", "list", "--porcelain"]
    listed = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if line.startswith("worktree ")]


def test_rows_have_names_of_their_own():
    assert len({work.name for work in WORKS}) == len({work.title for work in WORKS}) == len(WORKS)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_every_row_is_a_network_with_a_kernel(work):
    shape = (work.d,) if work.d else (3, 32, 32)
    kernel = analytic_kernel(network(work.network, work.d, work.activation), b_std=work.b_std)
    assert kernel.plan(shape)
    assert work.n2 is not None or not work.gradient


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["gap4-relu"], ["gap4-relu"]),
        (["fc10"], ["fc10-relu", "fc10-relu-no-bias"]),
        (["silu", "conv5-erf"], ["conv5-erf", "conv5-silu", "conv5-silu-gradient"]),
    ],
)
def test_words_choose_rows(words, names):
    assert [work.name for work in chosen(words)] == names


def test_all_rows_are_the_default():
    assert chosen([]) == list(WORKS)


def test_names_are_listed(capsys):
    assert main(["--list", "--rows", "gelu"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [w.name for w in chosen(["gelu"])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--rows", "nothing"],
            "expected names of rows, or parts of them; got 'nothing'. `--list` prints all names.\n",
        ),
        (["--rounds", "0"], "expected --rounds of at least 1; got 0.\n"),
        (["--threads", "0"], "expected --threads of at least 1; got 0.\n"),
        (["--compare", "no-such"], "expected a commit, a tag or a branch of this repository; got 'no-such'.\n"),
        (["--compare", "HEAD^{tree}"], "expected a commit, a tag or a branch of this repository; got 'HEAD^{tree}'.\n"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options, message, capsys):
    assert main(options) == 2
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize("name", ["gap4-relu-4", "fc3-erf-gradient"])
def test_the_process_of_a_row_says_what_is_asked_of_it(name, monkeypatch):
    monkeypatch.setattr(ours, "SECONDS", 0.0)
    (work,) = chosen([name])
    small = replace(work, n1=2, n2=3, ours=None, large=(1, 2) if work.large else None)
    answer = ours.measure(asdict(small))
    assert answer["pairs"] == 6
    assert (answer["bare"] is None) == (work.d is None)
    assert (answer["large"] is None) == (work.large is None)
    assert answer["source"] == str(ROOT / "src")


def test_slow_networks_are_measured_on_few_images(monkeypatch):
    monkeypatch.setattr(ours, "MOST_SECONDS", 0.0)
    monkeypatch.setattr(ours, "TURNS", 1)
    (work,) = chosen(["conv5-erf"])
    assert ours.measure(asdict(work))["pairs"] == 16


def test_sides_exchange_their_places():
    order = []
    measures = [lambda: order.append("a") or {"n": len(order)}, lambda: order.append("b") or {"n": len(order)}]
    answers = in_turns(measures, 3)
    assert "".join(order) == "abbaab"
    assert [[answer["n"] for answer in side] for side in answers] == [[1, 4, 5], [2, 3, 6]]


def test_ratio_is_of_medians_with_the_rounds_spread():
    found = ratio([2.0, 3.0, 10.0], [1.0, 2.0, 2.0])
    assert found == Ratio(1.5, 1.5, 5.0)
    assert str(found) == "1.5 (1.5 to 5)"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(1.06, 2.0, "slower"), (1.04, 2.0, ""), (0.5, 2.0, ""), (0.5, 0.94, "faster"), (0.5, 0.97, "")],
)
def test_a_row_is_slower_where_every_round_says_so(low, high, verdict):
    assert Ratio(1.0, low, high).verdict(0.05) == verdict


def test_lines_of_the_tables():
    (work,) = chosen(["gap4-relu-4"])
    beside_peer = kernels_beside_peer.line(work, [ANSWER], [ANSWER | {"seconds": 5.0}])
    assert " ".join(beside_peer.split()).endswith("500 ms 1.25 s 2.5 (2.5 to 2.5) 1.0 MB 2 MB 0.50 GB 2 (2 to 2)")
    now = [ANSWER | {"seconds": seconds} for seconds in (2.2, 2.4)]
    assert compare.line(work, [ANSWER, ANSWER], now).endswith("1.15 (1.1 to 1.2)       slower")


def test_a_process_that_fails_is_told_by_its_last_line():
    (work,) = chosen(["gap4-relu-4"])
    with pytest.raises(Failed, match="KeyError: 'no-such'"):
        our_side().measure(replace(work, network="no-such"), 1)
    with pytest.raises(Failed, match="exit code 3"):
        Side(("sh", "-c", "exit 3"), {}).measure(work, 1)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_the_commit_is_checked_out_and_removed(repository, error):
    (repository / "file").write_text("changed since")
    tree = None
    try:
        with compare.checked_out(compare.commit("HEAD", repository), repository) as tree:
            assert (tree / "file").read_text() == "text"
            assert len(worktrees(repository)) == 2
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        assert error
    assert tree
    assert not tree.parent.exists()
    assert len(worktrees(repository)) == 1


@pytest.mark.parametrize("revision", ["no-such", "--help", "HEAD:file", ""])
def test_what_is_no_commit_is_refused(repository, revision):
    with pytest.raises(ValueError, match="expected a commit, a tag or a branch"):
        compare.commit(revision, repository)


def test_either_code_runs_apart(monkeypatch, capsys, repository):
    """Processes of the two sides have folders of their own for the source and for what is compiled."""
    seen = []

    def measure(side, work, threads):
        seen.append((side.environment["PYTHONPATH"], side.environment["NUMBA_CACHE_DIR"], work.name, threads))
        return ANSWER | {"source": side.environment["PYTHONPATH"]}

    monkeypatch.setattr(Side, "measure", measure)
    compare.run(chosen(["gap4-relu-4"]), "HEAD", 2, 1, repository)
    assert len({source for source, *_ in seen}) == len({cache for _, cache, *_ in seen}) == 2
    assert [(name, threads) for *_, name, threads in seen] == [("gap4-relu-4", 1)] * 4
    assert capsys.readouterr().out.splitlines()[-1].rstrip().endswith("1 (1 to 1)")


def test_code_from_elsewhere_is_not_taken_for_the_commit(monkeypatch, capsys, repository):
    monkeypatch.setattr(Side, "measure", lambda side, work, threads: ANSWER | {"source": str(ROOT / "src")})
    compare.run(chosen(["gap4-relu-4"]), "HEAD", 2, 1, repository)
    assert "failed: the code of" in capsys.readouterr().out
