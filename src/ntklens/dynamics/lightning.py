"""A Lightning callback that records with a `KernelTracker`; needs the extra `lightning`."""

from __future__ import annotations

import math
from operator import attrgetter

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ntklens.dynamics.tracker import KernelTracker
from ntklens.errors import InputError


class KernelCallback(Callback):
    """Record the kernel before a training and after every epoch, and send its measures to the trainer's loggers.

    When a training is resumed from a checkpoint, also from one within an epoch, later records are removed, and recording
    goes on from there.

    Args:
        tracker: the tracker; with a folder, its records outlive the process.
        network: name of the module's part that maps images to logits, such as "model"; None for the module itself.
        every: number of epochs between two records.

    Raises:
        InputError: a training begins from its start, and the tracker already has the records of another.

    Example:
        >>> import torch
        >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
        >>> trainer = Trainer(max_epochs=5, callbacks=[KernelCallback(tracker, "model")], logger=False, barebones=True)
    """

    def __init__(self, tracker: KernelTracker, network: str | None = None, *, every: int = 1) -> None:
        self.tracker, self.network, self.every = tracker, network, every
        self._has_trained_an_epoch = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the records that are later than the checkpoint from which the training is resumed."""
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0 and trainer.global_step == 0 and self.tracker.epochs:
            raise InputError(
                f"the tracker has records of another training, up to epoch {self.tracker.epochs[-1]:g}. Give it another "
                "folder, or remove them with tracker.rewind(0)."
            )
        # A record at the current epoch stays: it was made when that epoch began. A checkpoint from within the epoch holds
        # a network that has moved on since.
        later = [e for e in self.tracker.epochs if e > trainer.current_epoch]
        if later:
            self.tracker.rewind(later[0])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the kernel before the first epoch of this process, unless it is known."""
        known = bool(self.tracker.epochs) and self.tracker.epochs[-1] >= trainer.current_epoch
        if not self.tracker.epochs or not (self._has_trained_an_epoch or known):
            self._record(trainer, pl_module, trainer.current_epoch)
        self._has_trained_an_epoch = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the kernel after an epoch."""
        epochs_done = trainer.current_epoch + 1
        if epochs_done % self.every == 0:
            self._record(trainer, pl_module, epochs_done)

    def _record(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        network: nn.Module = module if self.network is None else attrgetter(self.network)(module)
        self.tracker.record(network, epoch)
        # Radii are left out, as in `KernelTracker.log`: they are shares of the last record's, which is this one.
        metrics = {
            f"kernel/{name}": value
            for name, value in self.tracker.row().items()
            if not name.startswith("radius") and not math.isnan(value)
        }
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)
