"""What a matrix takes, told before any work."""

import pytest
import torch

from ntklens.errors import InputError
from ntklens.linalg import whole_plan
from ntklens.linalg.tiles import Layout, blas, plan
from ntklens.linalg.tiles.cluster.plan import cluster_plan


def test_plans_of_whole_matrices_and_of_clusters_say_what_they_take(monkeypatch):
    monkeypatch.setattr(whole_plan, "available_memory", lambda: int(2e9))
    whole = whole_plan.whole_plan(4000, 3.3, factor_seconds=200.0)
    assert str(whole) == (
        "4,000 inputs: the whole kernel matrix takes 128 MB and 294 MB beside it, of 2 GB that are available; its "
        "decomposition takes about 3 min."
    )
    whole.check()
    with pytest.raises(
        InputError, match=r"takes 3\.2 GB and 7\.36 GB beside it, and 2 GB are available.* --store folder"
    ):
        whole_plan.whole_plan(20_000, 3.3).check()
    cluster = cluster_plan(Layout(20_000), [10**9] * 4, 10**9, seconds=400.0)
    assert "1.68 GB on 4 workers, which can hold 2.4 GB" in str(cluster)
    assert cluster.matrix_seconds == 100.0
    with pytest.raises(
        InputError, match=r"2 workers can hold 1\.2 GB of tiles, 60% of their memory\. Start more workers"
    ):
        cluster_plan(Layout(20_000), [10**9] * 2, 10**9).check()
    assert cluster_plan(Layout(20_000), [10**9, 0], 10**9).fits


def test_the_time_of_all_tiles_follows_from_a_block():
    seen = []

    def entries(rows, columns):
        seen.append((rows, columns))
        return torch.zeros(rows.stop - rows.start, columns.stop - columns.start)

    assert plan.entries_seconds(entries, Layout(100, 64)) < 10
    assert all(rows.stop <= 100 for rows, _ in seen)
    assert plan.entries_seconds(entries, Layout(1)) < 10


@pytest.mark.parametrize(
    ("flags", "architecture", "is_advised"),
    [("avx2 avx512f", "Haswell", True), ("avx2 avx512f", "SkylakeX", False), ("avx2", "Haswell", False)],
)
def test_advice_on_a_blas_that_does_not_know_the_processor(flags, architecture, is_advised, monkeypatch):
    import threadpoolctl

    libraries = [{"internal_api": "openblas", "architecture": architecture}, {"internal_api": "openmp"}]
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: libraries)
    monkeypatch.setattr(blas, "_processor", lambda: f"flags : {flags}\n")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    advice = blas.faster_blas_advice()
    assert (advice is not None) == is_advised
    if is_advised:
        assert "as OPENBLAS_CORETYPE=Haswell in the environment says: with OPENBLAS_CORETYPE=SkylakeX" in advice
