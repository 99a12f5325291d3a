"""HpBandSter's worker: trains the architectures a master sends it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Union

from hpbandster.core.worker import Worker

from nas_plugins.architecture import Architecture
from nas_plugins.budget import Budget
from nas_plugins.errors import ScoreError
from nas_plugins.estimators.worth import Worth
from nas_plugins.hpbandster.compat import LOOPBACK, plain
from nas_plugins.hpbandster.generator import loss_of
from nas_plugins.space import SearchSpace

__all__ = ["ArchitectureWorker", "Evaluate", "epochs"]

Evaluate = Callable[[Architecture, Budget], Union[float, tuple[float, Mapping[str, float]]]]
"""Score, higher is better, or score and named metrics."""


def epochs(budget: float) -> Budget:
    """HpBandSter's budget as epochs, rounded, at least one."""
    return Budget(epochs=max(1, round(budget)))


class ArchitectureWorker(Worker):
    """Trains one child at a time; start it with :meth:`run`, which returns at shutdown.

    A run's result is ``{"loss": 1 - score, "info": {"architecture", "architecture_id",
    "seconds", "metrics", "checkpoint", "inherited", "epochs_saved"}}``. A child that raises, or
    whose score is no finite number, is a failed run: the traceback goes into the results, and the
    worker takes the next.

    A promoted child goes on from the checkpoint of its shorter run, as ``train_child`` says;
    subclass and override :meth:`train` to train in another way.

    Args:
        space: Where architectures come from.
        run_id: Of the master.
        evaluate: What an architecture is worth under a budget; default: its network is
            trained by :func:`lightning_modules.train_child`, and worth its validation
            accuracy.
        data: ``ImageDataModule`` that children are trained on; default: scikit-learn's
            digits.
        training: Further options of ``train_child``.
        worth: Costs that the trained child's accuracy is weighed or limited by; they are
            among the metrics.
        budget: HpBandSter's budget as ours; default: epochs.
        seed: Of each child's training.
        nameserver, nameserver_port: Address of the name server.
        host: Interface this worker listens on.
        id: Tells workers of one process apart.
        timeout: Seconds without work after which the worker ends; ``None``: never.
        logger: Default: ``hpbandster``, as for the master.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        run_id: str,
        evaluate: Evaluate | None = None,
        data: Any = None,
        training: Mapping[str, Any] | None = None,
        worth: Worth | None = None,
        budget: Callable[[float], Budget] = epochs,
        seed: int = 0,
        nameserver: str = LOOPBACK,
        nameserver_port: int | None = None,
        host: str = LOOPBACK,
        id: object = None,
        timeout: float | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        super().__init__(
            run_id,
            nameserver=nameserver,
            nameserver_port=nameserver_port,
            host=host,
            id=id,
            timeout=timeout,
            # Without a logger the base class would set the root logger to DEBUG.
            logger=logger or logging.getLogger("hpbandster"),
        )
        self.space = space
        self.evaluate = evaluate
        self.data = data
        self.training = dict(training or {})
        self.worth = worth
        self.budget = budget
        self.seed = seed

    def compute(
        self,
        config_id: Sequence[int],
        config: Mapping[str, Any],
        budget: float,
        working_directory: str,
    ) -> dict[str, Any]:
        """Called by HpBandSter for each run.

        Raises:
            Exception: Whatever the training raises; HpBandSter reports it as a failed run.
        """
        architecture = self.space.without_inactive(config)
        directory = Path(working_directory) / "children" / "-".join(map(str, config_id))
        started = time.perf_counter()
        try:
            score, info = self.train(architecture, self.budget(budget), directory)
        except SystemExit as error:  # HpBandSter catches Exception; the job would be lost
            raise RuntimeError(f"training of {architecture.id} called sys.exit") from error
        if not math.isfinite(score):
            raise ScoreError(
                f"score of architecture {architecture.id} is {score}; expected a finite number"
            )
        return {
            "loss": loss_of(float(score)),
            "info": plain(
                {
                    "architecture": architecture,
                    "architecture_id": architecture.id,
                    "seconds": time.perf_counter() - started,
                    **info,
                }
            ),
        }

    def train(
        self, architecture: Architecture, budget: Budget, directory: Path
    ) -> tuple[float, Mapping[str, Any]]:
        """Score of an architecture, and what else goes into the results.

        Args:
            architecture: What to evaluate.
            budget: How much it may cost.
            directory: This configuration's own, the same for each of its runs at growing
                budgets; not created yet.
        """
        if self.evaluate is not None:
            result = self.evaluate(architecture, budget)
            score, metrics = result if isinstance(result, tuple) else (result, {})
            return score, {"metrics": metrics}
        from lightning_modules import DigitsDataModule, train_child
        from lightning_modules.training import child_cost

        if self.data is None:
            self.data = DigitsDataModule()
        costs = {}
        if self.worth is not None:
            costs = self.worth.costs(architecture, partial(child_cost, self.space, self.data))
        child = train_child(
            self.space,
            architecture,
            self.data,
            budget=budget,
            seed=self.seed,
            directory=directory,
            **self.training,
        )
        score = child.score if self.worth is None else self.worth.reward(child.score, costs)
        info = {"metrics": {**child.metrics, **costs}, "checkpoint": child.checkpoint}
        return score, {**info, "inherited": child.inherited, "epochs_saved": child.epochs_saved}
