"""The callback in real trainings by Lightning, with TensorBoard's files read back."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ntklens as nl
from ntklens.networks import build

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning.pytorch", reason="the extra lightning is not installed")
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ntklens.dynamics.lightning import KernelCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice on workers, and its dependencies' deprecations


class Digits(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential(build("fc1", (1, 8, 8), 2, width=8), nn.Dropout(0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def data():
    return nl.load_dataset("digits", classes=[3, 8]).first(80, 20)


def fit(module, data, callbacks, folder, epochs=3, logger=False, resume=None, checkpoints=False):
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=callbacks,
        logger=logger,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=checkpoints,
        log_every_n_steps=1,
    )
    loader = DataLoader(TensorDataset(data.train.x, data.train.y), batch_size=20)
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("part", ["model", None])
def test_every_epoch_is_recorded_and_logged(data, tmp_path, part):
    module, tracker = Digits(), nl.KernelTracker(data.test.x, data.test.y)
    before = nl.empirical_kernel(module.model.eval())(data.test.x)
    logger = TensorBoardLogger(tmp_path, name="", version="run")
    trainer = fit(module.train(), data, [KernelCallback(tracker, part)], tmp_path, logger=logger)
    assert tracker.epochs == [0, 1, 2, 3]
    assert torch.equal(tracker.kernels[0], before)
    assert torch.equal(tracker.kernels[3], nl.empirical_kernel(module.model.eval())(data.test.x))
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    logged = events.Scalars("kernel/velocity")
    assert [e.value for e in logged] == pytest.approx([r["velocity"] for r in tracker.rows()[1:]], rel=1e-5)
    assert [e.step for e in logged] == [4, 8, 12]
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert [r["lr"] for r in tracker.rows()] == [rate] * 4
    assert {e.value for e in events.Scalars("kernel/settled")} == {0.0}


def test_a_training_taken_up_from_a_checkpoint(data, tmp_path):
    def tracker():
        return nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track")

    first = tracker()
    fit(Digits(), data, [KernelCallback(first, "model")], tmp_path, epochs=2).save_checkpoint(tmp_path / "two.ckpt")
    second = tracker()
    second.record(Digits().model, 2.5)  # later than the checkpoint
    fit(Digits(), data, [KernelCallback(second, "model")], tmp_path, epochs=4, resume=tmp_path / "two.ckpt")
    assert second.epochs == [0, 1, 2, 3, 4]
    assert torch.equal(second.kernels[:3], first.kernels)
    assert second.rows()[3]["velocity"] < 0.5


def test_a_training_taken_up_within_an_epoch(data, tmp_path):
    """What was recorded at the start of that epoch stays; the network as it is by now is not taken for it."""
    keep = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=3, save_top_k=-1)
    whole = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track")
    fit(Digits(), data, [KernelCallback(whole, "model"), keep], tmp_path, epochs=3, checkpoints=True)
    kernels = whole.kernels.clone()
    again = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track")
    resume = tmp_path / "epoch=1-step=6.ckpt"
    fit(Digits(), data, [KernelCallback(again, "model")], tmp_path, epochs=3, resume=resume)
    assert again.epochs == [0, 1, 2, 3]
    assert torch.equal(again.kernels[:2], kernels[:2])


def test_another_training_does_not_erase_the_first(data, tmp_path):
    tracker = nl.KernelTracker(data.test.x, data.test.y, folder=tmp_path / "track")
    fit(Digits(), data, [KernelCallback(tracker, "model")], tmp_path, epochs=1)
    with pytest.raises(nl.InputError, match="has records of another training, up to epoch 1"):
        fit(Digits(), data, [KernelCallback(tracker, "model")], tmp_path, epochs=1)
    assert tracker.epochs == [0, 1]


def test_fewer_records_on_request(data, tmp_path):
    tracker = nl.KernelTracker(data.test.x, data.test.y)
    fit(Digits(), data, [KernelCallback(tracker, "model", every=2)], tmp_path, epochs=5)
    assert tracker.epochs == [0, 2, 4]


def test_tensorboards_own_writer_in_a_plain_loop(data, tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    tracker, net = nl.KernelTracker(data.test.x, data.test.y), build("fc1", (1, 8, 8), 2, width=8)
    with SummaryWriter(str(tmp_path)) as writer:
        for epoch in range(3):
            tracker.record(net, epoch, loss=0.5 - epoch)
            tracker.log(writer)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("kernel/loss")] == [(0, 0.5), (1, -0.5), (2, -1.5)]
    assert "kernel/radius" not in events.Tags()["scalars"]  # a share of the last epoch's, 1 when it is written


def test_a_record_that_fails_does_not_end_the_training(data, tmp_path):
    class Failing(nl.KernelTracker):
        def record(self, module, epoch, **options):
            if epoch in (1, 2):
                raise RuntimeError("the device is full")
            return super().record(module, epoch, **options)

    tracker = Failing(data.test.x, data.test.y, top_k=2)
    callback = KernelCallback(tracker, "model")
    with pytest.warns(
        UserWarning, match=r"at epoch 1, and the training goes on without: the device is full\. Later failures"
    ):
        fit(Digits(), data, [callback], tmp_path)
    assert callback.failures == {1: "the device is full", 2: "the device is full"}
    assert tracker.epochs == [0, 3]
