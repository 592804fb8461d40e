"""An attack with its scores and its cost, and the checks of a model's gradients."""

import pytest
import torch
from torch import nn

from ntklens.attacks import attack, correct, diagnose, noise, pgd
from ntklens.errors import InputError


def network(seed: int = 0) -> nn.Module:
    g = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=g) / 4
    return model


def task(n: int = 60):
    model = network()
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return model, x, model(x).argmax(1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_a_result_says_what_was_done_and_what_it_cost():
    model, x, y = task()
    result = attack(model, x, y, 0.1, "pgd", steps=5)
    torch.testing.assert_close(result.x_adv, pgd(model, x, y, 0.1, steps=5))
    assert (result.gradient_evaluations, result.queries) == (5 * len(x), 0)
    assert result.clean_accuracy.value == 1.0
    assert result.robust_accuracy.value == float(correct(model, result.x_adv, y).double().mean())
    assert result.robust_accuracy.low < result.robust_accuracy.value < result.robust_accuracy.high
    assert float(result.linf.max()) <= 0.1 + 1e-6
    row = result.row()
    assert row["success"] == pytest.approx(1 - row["robust_accuracy"])  # all were right before
    assert row["seconds"] > 0


def test_images_made_on_one_model_are_scored_on_another():
    model, x, _ = task()
    victim = network(5)
    y = victim(x).argmax(1)
    moved = attack(model, x, y, 0.1, "fgsm", victim=victim)
    assert moved.robust_accuracy.value == float(correct(victim, moved.x_adv, y).double().mean())
    assert attack(model, x, y, 0.1, "none").robust_accuracy.value < 1.0
    still = attack(model, x, y, 0.1, "noise", victim=victim, generator=seeded())
    assert moved.robust_accuracy.value <= still.robust_accuracy.value <= 1.0


def test_an_unknown_attack():
    model, x, y = task(2)
    with pytest.raises(InputError, match="fgsm, pgd"):
        attack(model, x, y, 0.1, "deepfool")


def failed(model, x, y, eps: float = 0.05, **options) -> set[str]:
    return {c.name for c in diagnose(model, x, y, eps, generator=seeded(), queries=60, **options) if not c.passed}


def test_a_plain_network_passes_every_check():
    model, x, y = task()
    assert failed(model, x, y) == set()


def test_training_mode_and_randomness_are_seen():
    model, x, y = task()
    dropout = nn.Sequential(model[0], nn.Dropout(0.5), *model[1:])
    dropout.train()
    assert {"eval mode", "deterministic outputs"} <= failed(dropout, x, y)


def test_probabilities_and_vanished_gradients_are_seen():
    model, x, y = task()
    model[-1].weight.data *= 1e4
    assert {"logits", "gradients"} <= failed(nn.Sequential(model, nn.Softmax(1)), x, y)


class _Quantised(nn.Module):
    """The network on pixels rounded to 16 levels, with the rounding's gradient of a random direction."""

    def __init__(self, model: nn.Module, x: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.wrong = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(9))

    def forward(self, x):
        beside = (x * self.wrong).sum((1, 2, 3))[:, None] * torch.tensor([1e-4, 0.0, 0.0])
        return self.model((x * 16).round() / 16).detach() + beside


def test_masked_gradients_are_seen():
    model, x, y = task()
    assert {"random search", "unbounded attack"} <= failed(_Quantised(model, x), x, y, 0.15)


def test_normalised_images_are_seen():
    model, x, _ = task()
    z = (x - 0.5) / 0.25
    assert "raw pixels" in failed(model, z, model(z).argmax(1), bounds=(-2.0, 2.0))


def test_a_model_without_gradients_fails_one_check_and_ends_there():
    model, x, y = task()
    blind = lambda z: model(z).detach()  # noqa: E731
    assert failed(blind, x, y) == {"gradients"}
    with pytest.raises(InputError, match="got none"):
        failed(model, x[:0], y[:0])


def test_results_are_of_wrong_predictions_only():
    model, x, y = task()
    with pytest.raises(InputError, match="targeted"):
        attack(model, x, y, 0.1, "pgd", targeted=True)
    with pytest.raises(InputError, match="needs a generator"):
        attack(model, x, y, 0.1, "noise")
    with pytest.raises(InputError, match="one per image"):
        correct(model, x, y[:, None])
    assert attack(model, x[:0], y[:0], 0.1, "fgsm").row()["success"] == 0


def test_the_batch_size_holds_for_the_scores():
    model, x, y = task()
    seen = []

    def watched(z):
        seen.append(len(z))
        return model(z)

    attack(watched, x, y, 0.1, "fgsm", batch_size=3)
    assert max(seen) == 3


def test_noise_of_a_radius_that_is_none():
    _, x, _ = task(2)
    for eps in (-0.1, float("nan")):
        with pytest.raises(InputError, match="ε of 0 or more"):
            noise(x, eps, generator=seeded())
