"""A Lightning callback around a `KernelTracker`; needs the extra `lightning`."""

from __future__ import annotations

import math
from operator import attrgetter

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ntklens.dynamics.tracker import KernelTracker
from ntklens.errors import InputError


class KernelCallback(Callback):
    """Records the kernel before a training and after every epoch, and sends its measures to the trainer's loggers.

    A training that is taken up from a checkpoint, also from one within an epoch, forgets what was recorded later than that
    and goes on from there.

    Args:
        tracker: with a folder of its own, its records survive the process.
        network: name of the module's part that takes images to logits, such as "model"; None for the module itself.
        every: epochs from one record to the next.

    Raises:
        InputError: when a training begins, from its start, and the tracker has records of another.

    Example:
        >>> import torch
        >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
        >>> trainer = Trainer(max_epochs=5, callbacks=[KernelCallback(tracker, "model")], logger=False, barebones=True)
    """

    def __init__(self, tracker: KernelTracker, network: str | None = None, *, every: int = 1) -> None:
        self.tracker, self.network, self.every = tracker, network, every
        self._begun = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was recorded later than the checkpoint that the training is taken up from."""
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0 and trainer.global_step == 0 and self.tracker.epochs:
            raise InputError(
                f"the tracker has records of another training, up to epoch {self.tracker.epochs[-1]:g}; give it another "
                "folder, or call rewind(0) on it."
            )
        for epoch in [e for e in self.tracker.epochs if e > trainer.current_epoch][:1]:
            self.tracker.rewind(epoch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The kernel before the first epoch that is trained here, unless it is known."""
        if not self.tracker.epochs or (not self._begun and self.tracker.epochs[-1] < trainer.current_epoch):
            self._record(trainer, pl_module, trainer.current_epoch)
        self._begun = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The kernel after an epoch."""
        done = trainer.current_epoch + 1
        if done % self.every == 0:
            self._record(trainer, pl_module, done)

    def _record(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        network: nn.Module = module if self.network is None else attrgetter(self.network)(module)
        self.tracker.record(network, epoch)
        row = {f"kernel/{k}": v for k, v in self.tracker.row().items() if not k.startswith("radius")}
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if not math.isnan(v)}, trainer.global_step)
