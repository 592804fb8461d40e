"""Training runs that are resumed from a checkpoint."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.networks import build, train

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


def test_a_training_taken_up_ends_where_it_would_have(tmp_path):
    """To the bit: weights, momentum, batch norm's statistics and the order of the batches."""
    data = digits(60)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    epochs_run: list[int] = []

    def run(epochs: int, stop: int | None = None, **options) -> nn.Module:
        def on_epoch(epoch: int, model: nn.Module, loss: float) -> None:
            epochs_run.append(epoch)
            if epoch == stop:
                raise KeyboardInterrupt

        generator = torch.Generator().manual_seed(5)
        options |= {"epochs": epochs, "batch_size": 16, "learning_rate": 0.05, "generator": generator}
        return train(net, data.train.x, data.train.y, on_epoch=on_epoch, **options)

    whole = run(4)
    path = tmp_path / "training.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(4, stop=3, checkpoint=path)
    epochs_run.clear()
    again = run(4, checkpoint=path)
    assert epochs_run == [3, 4]
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in again.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["training.safetensors"]


def test_checkpoints_of_another_training_are_refused(tmp_path):
    data = digits(20)
    path = tmp_path / "training.safetensors"

    def run(width: int = 4, rate: float = 0.1) -> nn.Module:
        net, generator = build("fc1", SHAPE, 2, width=width), torch.Generator().manual_seed(0)
        options = {"epochs": 1, "batch_size": 10, "learning_rate": rate, "generator": generator, "checkpoint": path}
        return train(net, data.train.x, data.train.y, **options)

    run()
    with pytest.raises(nl.InputError, match="expected a checkpoint of a training run with"):
        run(rate=0.2)
    with pytest.raises(nl.InputError, match="of another network"):
        run(width=5)
    path.write_bytes(b"something else")
    with pytest.raises(nl.InputError, match="expected a checkpoint of a training run; got"):
        run()
