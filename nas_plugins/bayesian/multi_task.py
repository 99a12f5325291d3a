"""Bayesian optimisation that starts from studies of other tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Union

import numpy as np
import torch
from botorch.models import MultiTaskGP
from botorch.models.transforms import Standardize
from gpytorch.models import ExactGP
from torch import Tensor

from nas_plugins.architecture import Architecture
from nas_plugins.bayesian.gaussian_process import GaussianProcess
from nas_plugins.bayesian.surrogate import kernel_of, tamed
from nas_plugins.errors import NasPluginsError
from nas_plugins.space import SearchSpace

__all__ = ["MultiTask", "TaskError", "write_task"]

Task = Sequence[tuple[Mapping[str, Any], float]]
"""Architectures of an earlier study with their scores, higher is better."""


class TaskError(NasPluginsError, ValueError):
    """A file of an earlier study cannot be read."""


class MultiTask(GaussianProcess):
    """A Gaussian process shared by the study and earlier ones, say on other data sets.

    Swersky, Snoek & Adams 2013, "Multi-task Bayesian optimization": the covariance of two
    evaluations is that of their architectures times that of their tasks, which is learned.
    The scores of each task are standardised by themselves, so that only their order and
    shape are carried over; proposals are made by the process from the first
    ``num_initial`` on, which may be few.

    Deviations: as :class:`GaussianProcess`.

    Args:
        space: Where architectures come from.
        seed: Source of all randomness.
        tasks: Earlier studies, each as pairs of architecture and score, or the path of a
            file that :func:`write_task` wrote. Architectures may lack decisions of the space.
        acquisition: See :class:`GaussianProcess`.
        num_initial: Proposals before the first model: the best of the tasks in turn, at random
            when these have been.
        max_observations: Of the study, and of each task.
        refit_every: See :class:`GaussianProcess`.

    Raises:
        TaskError: A file is not what :func:`write_task` wrote, or a score is not finite.
        ArchitectureError: A task's architecture is not of the space.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        tasks: Sequence[Union[str, Path, Task]] = (),
        acquisition: str = "ei",
        num_initial: int = 3,
        max_observations: int = 200,
        refit_every: int = 5,
    ) -> None:
        loaded = [_read(task) if isinstance(task, (str, Path)) else task for task in tasks]
        for task in loaded:
            _check_finite(task)
        self._tasks = [
            sorted(((space.recall(a), float(score)) for a, score in task), key=lambda p: -p[1])
            for task in loaded
            if task
        ]
        super().__init__(
            space,
            seed=seed,
            acquisition=acquisition,
            num_initial=num_initial,
            max_observations=max_observations,
            refit_every=refit_every,
        )

    def _begin(self, number: int, rng: np.random.Generator) -> Architecture:
        if not self._tasks:
            return self.space.sample(rng)
        in_turn = (a for level in zip_longest(*self._tasks) for a, _ in filter(None, level))
        best = list(dict.fromkeys(in_turn))
        if number < len(best) and self.space.canonical(best[number]) not in self._known:
            return best[number]
        return self.space.sample(rng)

    def _process(self, rows: Tensor, scores: Tensor) -> ExactGP:
        if not self._tasks:
            return super()._process(rows, scores)
        parts = [(rows, scores)]
        for task in self._tasks:
            used = task[: self.max_observations]
            values = tamed(torch.tensor([score for _, score in used], dtype=torch.float64))
            parts.append((self.inputs.rows(a for a, _ in used), values))
        x = torch.cat([_with_task(of, number) for number, (of, _) in enumerate(parts)])
        # Each task has its own scale; the model speaks in that of the study.
        scale, middle = scores.std(unbiased=False), scores.mean()
        y = torch.cat([_standardised(values) for _, values in parts])
        y = middle + (scale if scale > 0 else 1.0) * y
        kernel = kernel_of(range(self.inputs.size), self.inputs.categorical).to(x)
        return MultiTaskGP(
            x, y[:, None], task_feature=-1, output_tasks=[0], covar_module=kernel,
            outcome_transform=Standardize(m=1),
        )  # fmt: skip


def write_task(pairs: Task, path: str | Path) -> None:
    """Write architectures and scores, higher is better, for :class:`MultiTask`."""
    content = [[dict(architecture), float(score)] for architecture, score in pairs]
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: str | Path) -> Task:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return [(Architecture(choices), float(score)) for choices, score in content]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TaskError(
            f"{path} cannot be read as an earlier study: {error}; expected the JSON that "
            "write_task writes, a list of [architecture, score]"
        ) from error


def _check_finite(task: Task) -> None:
    wrong = [score for _, score in task if not math.isfinite(score)]
    if wrong:
        raise TaskError(f"a task has score {wrong[0]}; expected finite numbers: leave it out")


def _with_task(rows: Tensor, number: int) -> Tensor:
    return torch.cat([rows, rows.new_full((len(rows), 1), float(number))], dim=1)


def _standardised(values: Tensor) -> Tensor:
    deviation = values.std(unbiased=False)
    return (values - values.mean()) / (deviation if deviation > 0 else 1.0)
