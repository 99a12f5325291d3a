"""Reports a training's progress to Optuna, whose pruners stop what does not promise."""

from __future__ import annotations

import copy
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch.multiprocessing.spawn import ProcessRaisedException

from nas_plugins.errors import MissingExtraError, NasPluginsError

try:
    import optuna
except ModuleNotFoundError as _error:
    if _error.name != "optuna":
        raise
    raise MissingExtraError("optuna", "optuna") from _error

if TYPE_CHECKING:
    from nas_plugins.optuna import MultiObjectivePruner

__all__ = ["OptunaMultiObjectivePruningCallback", "OptunaPruningCallback"]


EPOCHS_SAVED = "epochs_saved"
"""User attribute of a trial whose training went on from a checkpoint: epochs that were in it."""


class _PruningCallback(pl.Callback, ABC):
    """Lets the first process report and decide after each epoch's last validation.

    Of a training that goes on from a checkpoint, the trial's user attribute ``epochs_saved`` says
    how many epochs were in it.

    Args:
        trial: The running trial; ``None`` in a process that has none.
        metrics: Names of the logged metrics that are reported.
    """

    def __init__(self, trial: optuna.Trial | None, metrics: Sequence[str]) -> None:
        self._trial = trial
        self._metrics = list(metrics)
        self._reason: str | None = None
        self._pid = os.getpid()

    @abstractmethod
    def _report(self, trial: optuna.Trial, trainer: pl.Trainer) -> str | None:
        """Report; the reason to prune, if there is one."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._trial is None or os.getpid() == self._pid:
            return
        if isinstance(self._trial.storage, optuna.storages.InMemoryStorage):
            raise NasPluginsError(
                "the study is in the memory of the process that called fit, and this process "
                "was started by fit: its reports would be lost. Give the study a storage "
                "('sqlite:///study.db', a journal), or start the processes with torchrun and "
                "give the trial to the first one only"
            )
        # A copy opens the storage anew: connections do not survive a fork.
        self._trial, self._pid = copy.deepcopy(self._trial), os.getpid()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn is not TrainerFn.FITTING:
            return
        if not _is_the_epochs_last(trainer):  # Optuna keeps the first report of an epoch
            return
        for name in self._metrics:
            if name not in trainer.callback_metrics:
                raise ValueError(
                    f"monitor is {name!r}, which is not logged; logged are "
                    f"{sorted(trainer.callback_metrics)}"
                )
        reason: str | None = None
        failure: Exception | None = None
        if trainer.is_global_zero and self._trial is not None:
            try:
                reason = self._report(self._trial, trainer)
            except Exception as error:  # the others wait for the verdict below
                failure = error
        reason, failed = trainer.strategy.broadcast((reason, repr(failure) if failure else None))
        if failure is not None:
            raise failure
        if failed is not None:
            raise NasPluginsError(f"the first process could not report to Optuna: {failed}")
        self._reason = reason
        if not trainer.is_last_batch:
            self._prune()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch and trainer.is_global_zero and self._trial is not None:
            self._trial.set_user_attr(EPOCHS_SAVED, trainer.current_epoch)

    # An epoch is finished before the training ends, so that a checkpoint can hold it.
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._prune()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._prune()

    def _prune(self) -> None:
        reason, self._reason = self._reason, None
        if reason is not None:
            raise optuna.TrialPruned(reason)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # What a process started by fit raises arrives as text.
        name = f"{optuna.TrialPruned.__module__}.{optuna.TrialPruned.__qualname__}: "
        if isinstance(exception, ProcessRaisedException) and name in str(exception):
            raise optuna.TrialPruned(str(exception).rpartition(name)[2].strip()) from exception


def _is_the_epochs_last(trainer: pl.Trainer) -> bool:
    """Whether no validation of this epoch follows, as more than one may be asked for."""
    batches, every = trainer.num_training_batches, trainer.val_check_batch
    if every is None or math.isinf(batches):
        return True
    return trainer.fit_loop.batch_idx + 1 + every > batches


class OptunaPruningCallback(_PruningCallback):
    """Reports a metric after each epoch's last validation, and ends the fit when Optuna prunes.

    ``trainer.fit`` then raises ``optuna.TrialPruned``, in every process of a distributed fit,
    and nothing is left to call. The first process reports and decides, the others follow.

    Under DDP the trial belongs to the process that runs the study:

    - ``torchrun``, SLURM, or Lightning's own ``strategy="ddp"``, where every process runs the
      script: the first one has the trial, the others give ``None`` (and have to build the
      same network, say from an architecture that the first broadcasts or writes to a file).
      Any storage.
    - ``DDPStrategy(start_method="spawn")`` or ``"fork"``, where ``fit`` itself starts the
      processes: give the trial. Storages that another process can open: database, journal,
      gRPC (the last with ``spawn``).

    Args:
        trial: The running trial; ``None`` in a process that has none.
        monitor: A logged metric, the one the objective returns. Log it with
            ``sync_dist=True``, or the first process decides by its own share of the data.

    Raises:
        ValueError: At validation, when nothing logged ``monitor``.
        NasPluginsError: The trial's storage lives in the memory of another process.

    Example:
        >>> def objective(trial):
        ...     trainer = pl.Trainer(callbacks=[OptunaPruningCallback(trial, "val_acc")])
        ...     trainer.fit(...)
        ...     return float(trainer.callback_metrics["val_acc"])
    """

    def __init__(self, trial: optuna.Trial | None, monitor: str = "val_acc") -> None:
        super().__init__(trial, [monitor])
        self.monitor = monitor

    def _report(self, trial: optuna.Trial, trainer: pl.Trainer) -> str | None:
        score = float(trainer.callback_metrics[self.monitor])
        trial.report(score, step=trainer.current_epoch)
        if not trial.should_prune():
            return None
        return f"{self.monitor} is {score:.6g} after epoch {trainer.current_epoch}"


class OptunaMultiObjectivePruningCallback(_PruningCallback):
    """The same for a study with several objectives, by a pruner of this package.

    ``trainer.fit`` raises ``optuna.TrialPruned`` as with :class:`OptunaPruningCallback`, and
    what is said there about DDP holds here. Epochs count from 1; a training that is over
    (``max_epochs``) is not pruned any more.

    Args:
        trial: The running trial; ``None`` in a process that has none.
        pruner: Who decides.
        monitor: For each objective of the study, in their order: the logged metric, or the
            value itself where it is known before the training, such as a network's size.

    Raises:
        ValueError: At validation, when nothing logged a metric.
        ScoreError: At validation, when the study has another number of objectives.
        NasPluginsError: The trial's storage lives in the memory of another process.

    Example:
        >>> def objective(trial):
        ...     parameters = ...
        ...     callback = OptunaMultiObjectivePruningCallback(
        ...         trial, pruner, monitor=["val_acc", parameters]
        ...     )
        ...     trainer = pl.Trainer(callbacks=[callback], max_epochs=9)
        ...     trainer.fit(...)
        ...     return float(trainer.callback_metrics["val_acc"]), parameters
    """

    def __init__(
        self,
        trial: optuna.Trial | None,
        pruner: MultiObjectivePruner,
        monitor: Sequence[str | float],
    ) -> None:
        super().__init__(trial, [name for name in monitor if isinstance(name, str)])
        self._pruner = pruner
        self.monitor = list(monitor)

    def _report(self, trial: optuna.Trial, trainer: pl.Trainer) -> str | None:
        values = [
            float(trainer.callback_metrics[item] if isinstance(item, str) else item)
            for item in self.monitor
        ]
        epochs = trainer.current_epoch + 1
        stops = self._pruner.should_prune(trial, values, step=epochs)
        if not stops or epochs == trainer.max_epochs:
            return None
        return f"the objectives are {[f'{v:.6g}' for v in values]} after {epochs} epochs"
