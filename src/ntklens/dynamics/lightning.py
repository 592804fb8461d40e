"""A Lightning callback that records with a `KernelTracker`; needs the extra `lightning`."""

from __future__ import annotations

import warnings
from operator import attrgetter

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ntklens.dynamics.tracker import KernelTracker
from ntklens.errors import InputError
from ntklens.files import first_line


class KernelCallback(Callback):
    """Record the kernel before a training and after every epoch, and send its measures to the trainer's loggers.

    Epoch 0 is the initial network. The largest learning rate of the optimisers is recorded as `lr`.

    When a training is resumed from a checkpoint, also from one within an epoch, later records are removed, and recording
    goes on from there.

    A record that fails never ends a training: the first failure is warned of, all are kept in `failures`, and the training
    goes on.

    Args:
        tracker: the tracker; with a folder, its records outlive the process.
        network: name of the module's part that maps images to logits, such as "model"; None for the module itself.
        every: number of epochs between two records.

    Attributes:
        failures: for each epoch that could not be recorded, why.

    Raises:
        InputError: a training begins from its start, and the tracker already has the records of another.

    Example:
        >>> import torch
        >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
        >>> trainer = Trainer(max_epochs=5, callbacks=[KernelCallback(tracker, "model")], logger=False, barebones=True)
    """

    def __init__(self, tracker: KernelTracker, network: str | None = None, *, every: int = 1) -> None:
        self.tracker, self.network, self.every = tracker, network, every
        self.failures: dict[int, str] = {}
        self._has_trained_an_epoch = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the records that are later than the checkpoint from which the training is resumed."""
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0 and trainer.global_step == 0 and self.tracker.epochs:
            raise InputError(
                f"the tracker has records of another training, up to epoch {self.tracker.epochs[-1]:g}. Give it another "
                "folder, or start anew with KernelTracker(..., fresh=True)."
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
        try:
            self._measure(trainer, module, epoch)
        except Exception as error:  # whatever goes wrong in a measurement, the training is worth more
            if not self.failures:
                warnings.warn(
                    f"the kernel could not be recorded at epoch {epoch}, and the training goes on without: "
                    f"{first_line(error).removesuffix('.')}. Later failures are in `failures` of the callback.",
                    stacklevel=2,
                )
            self.failures[epoch] = first_line(error)

    def _measure(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        """Record the kernel, and send its measures to the loggers."""
        network: nn.Module = module if self.network is None else attrgetter(self.network)(module)
        rates = [float(group["lr"]) for optimiser in trainer.optimizers for group in optimiser.param_groups]
        self.tracker.record(network, epoch, **({"lr": max(rates)} if rates else {}))
        metrics = {f"kernel/{name}": value for name, value in self.tracker.logged().items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, trainer.global_step)
