"""A Lightning callback around a `KernelTracker`; needs the extra `lightning`."""

from __future__ import annotations

import math
from operator import attrgetter

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from ntklens.dynamics.tracker import KernelTracker


class KernelCallback(Callback):
    """Records the kernel before a training and after every epoch, and sends its measures to the trainer's loggers.

    A training that is taken up from a checkpoint forgets what was recorded later than that and goes on from there.

    Args:
        tracker: with a folder of its own, its records survive the process.
        network: name of the module's part that takes images to logits, such as "model"; None for the module itself.
        every: epochs from one record to the next.

    Example:
        >>> import torch
        >>> tracker = KernelTracker(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]), top_k=2)
        >>> trainer = Trainer(max_epochs=5, callbacks=[KernelCallback(tracker, "model")], logger=False, barebones=True)
    """

    def __init__(self, tracker: KernelTracker, network: str | None = None, *, every: int = 1) -> None:
        self.tracker, self.network, self.every = tracker, network, every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The kernel before the first step."""
        self.tracker.rewind(trainer.current_epoch)
        self._record(trainer, pl_module, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The kernel after an epoch."""
        done = trainer.current_epoch + 1
        if done % self.every == 0:
            self._record(trainer, pl_module, done)

    def _record(self, trainer: Trainer, module: LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        if self.network is not None:
            network: nn.Module = attrgetter(self.network)(module)
            self.tracker.record(network, epoch)
        else:
            held, module._trainer = module._trainer, None  # a copy of the module shall not copy the training
            try:
                self.tracker.record(module, epoch)
            finally:
                module._trainer = held
        row = {f"kernel/{k}": v for k, v in self.tracker.row().items() if not k.startswith("radius")}
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if not math.isnan(v)}, trainer.global_step)
