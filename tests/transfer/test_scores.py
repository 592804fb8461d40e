"""Who is fooled by whose images."""

import pytest
import torch

from ntklens.transfer import TrainingRecipe, transfer_scores

EPS = 16 / 255


def test_untrained_kernels_fool_a_network_more_than_noise_and_a_linear_kernel(data, fitted):
    x, y = data.test.x, data.test.y
    victim = TrainingRecipe(epochs=8, width=32).network("fc2", data.train.x, data.train.y, 10, seed=5)
    options = {"steps": 3, "loss": "margin"}
    attacked = {
        name: fitted(name).images(x, y, EPS, generator=torch.Generator().manual_seed(0), **options)
        for name in ("noise", "linear", "ntk:fc1", "net:fc2")
    }
    scores = transfer_scores(victim, x, y, attacked)
    assert list(scores) == ["clean", *attacked]
    accuracy = {name: score.accuracy.value for name, score in scores.items()}
    assert accuracy["clean"] > 0.6
    assert accuracy["ntk:fc1"] < accuracy["linear"] - 0.02
    assert accuracy["ntk:fc1"] < accuracy["noise"] - 0.03
    score = scores["ntk:fc1"]
    clean_correct = victim(x).argmax(1) == y
    assert score.fooled.n == int(clean_correct.sum())
    assert score.fooled.value == pytest.approx(float((clean_correct & ~score.correct).sum() / clean_correct.sum()))
    assert scores["clean"].fooled.value == 0.0
