"""The main job: from a space and images to a trained, drawn, exported network."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lightning_modules import ChildClassifier, ChildResult, train_child
from lightning_modules.catalogue import data_module
from lightning_modules.training import child_cost
from nas_plugins import Architecture, Budget, SearchSpace
from nas_plugins.cli import BASELINE, INTERRUPTED, SETTINGS, OptionError, named_values
from nas_plugins.cli.storage import opened
from nas_plugins.drawing import draw
from nas_plugins.estimators.objectives import InfeasibleError
from nas_plugins.estimators.worth import Worth
from nas_plugins.optuna import ArchitectureSampler, architecture_of, suggest
from nas_plugins.optuna.artifacts import upload_drawing
from nas_plugins.optuna.report import write_study_report
from nas_plugins.spaces import load
from nas_plugins.strategies import Deduplicated, create

__all__ = ["search"]

NUM_SHOWN = 5


@dataclass(frozen=True)
class _Job:
    """Everything one search needs; made from the command line once."""

    space: SearchSpace
    data: Any
    budget: Budget
    seed: int
    accelerator: str
    directory: Path
    storage: str
    settings: dict[str, Any]
    console: Console
    worth: Worth

    def study(self, name: str, strategy: str, options: dict[str, Any]) -> optuna.Study:
        """The study of a strategy, continued where it exists.

        Raises:
            OptionError: It exists and was made with other settings.
        """
        made = Deduplicated(create(strategy, self.space, seed=self.seed, **options))
        study = optuna.create_study(
            study_name=name,
            storage=opened(self.storage),
            direction="maximize",
            sampler=ArchitectureSampler(made, self.space),
            load_if_exists=True,
        )
        settings = {**self.settings, **self.worth.settings, "strategy_options": options}
        before = study.user_attrs.get(SETTINGS, settings)
        changed = [key for key in settings if before.get(key) != settings[key]]
        if changed:
            key = changed[0]
            raise OptionError(
                f"the study {name!r} in {self.storage} was made with {key}={before.get(key)!r}, "
                f"now it is {settings[key]!r}: scores would not compare. Choose another "
                "--directory, or give the old settings"
            )
        study.set_user_attr(SETTINGS, settings)
        return study

    def train(self, architecture: Architecture, budget: Budget, **options: Any) -> ChildResult:
        return train_child(
            self.space,
            architecture,
            self.data,
            budget=budget,
            seed=self.seed,
            accelerator=self.accelerator,
            **options,
        )

    @property
    def artifacts(self) -> Path:
        return self.directory / "artifacts"

    def evaluate(self, trial: optuna.Trial) -> float:
        try:
            return self._evaluate(trial)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
            # Optuna would note an interrupt as a failure; this leaves the trial to be asked again.
            raise SystemExit(INTERRUPTED) from None

    def _evaluate(self, trial: optuna.Trial) -> float:
        architecture = suggest(trial, self.space)
        upload_drawing(
            trial, self.space, architecture, FileSystemArtifactStore(str(self.artifacts))
        )
        try:
            costs = self.worth.costs(architecture, partial(child_cost, self.space, self.data))
        except InfeasibleError as error:
            raise optuna.TrialPruned(str(error)) from error  # told to the strategy as failed
        for name, cost in costs.items():
            trial.set_user_attr(name, cost)
        return self.worth.reward(self.train(architecture, self.budget).score, costs)


def search(options: argparse.Namespace) -> None:
    """Search, compare with random search, then train, draw and export the best."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(options.threads)
    data = data_module(
        options.data, directory=options.data_dir, batch_size=options.batch_size, seed=options.seed
    )
    (options.directory / "artifacts").mkdir(parents=True, exist_ok=True)
    job = _Job(
        space=load(options.space, **_space_options(options)),
        data=data,
        budget=Budget(epochs=options.epochs, data_fraction=options.data_fraction),
        seed=options.seed,
        accelerator=options.accelerator,
        directory=options.directory,
        storage=options.storage or f"sqlite:///{options.directory / 'study.db'}",
        settings={
            "space": options.space,
            "space_options": _space_options(options),
            "data": options.data,
            "data_dir": options.data_dir and str(options.data_dir.resolve()),
            "batch_size": options.batch_size,
            "data_fraction": options.data_fraction,
            "epochs": options.epochs,
            "seed": options.seed,
        },
        console=Console(),
        worth=Worth.read(
            named_values(options.target), named_values(options.limit), options.latency_table
        ),
    )
    strategy_options = _strategy_options(options)
    study = job.study(options.strategy, options.strategy, strategy_options)
    _run(job, study, options.trials, options.strategy)
    best = _show(job, study)
    if options.baseline:
        baseline = job.study(BASELINE, "random", {})
        _run(job, baseline, options.trials, "random search")
        _compare(job, options.strategy, study, baseline)
    _finish(job, best, options.final_epochs)
    page = write_study_report(
        study, job.space, job.directory / "report.html", objectives=[job.worth.name]
    )
    job.console.print(f"every trial, drawn: {page}", soft_wrap=True)


def _run(job: _Job, study: optuna.Study, trials: int, name: str) -> None:
    """Train until the study has ``trials`` trials that did not fail, showing progress."""
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    done = len(study.get_trials(deepcopy=False, states=states))
    if done:
        job.console.print(f"continuing the study {study.study_name!r} after {done} trials")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("best {task.fields[best]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=job.console) as progress:
        task = progress.add_task(name, total=trials, completed=done, best=_best_score(study))

        def advance(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            progress.update(task, advance=1, best=_best_score(study))

        # Another process may work on the same study.
        enough = optuna.study.MaxTrialsCallback(trials, states=states)
        study.optimize(job.evaluate, n_trials=max(0, trials - done), callbacks=[advance, enough])


def _best_score(study: optuna.Study) -> str:
    scores = [trial.value for trial in _ranking(study)[:1]]
    return f"{scores[0]:.2%}" if scores else "-"


def _ranking(study: optuna.Study) -> list[Any]:
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    return sorted(complete, key=lambda trial: (-trial.value, trial.number))


def _show(job: _Job, study: optuna.Study) -> Architecture:
    """Print the table of the best; returns the first of them.

    Raises:
        OptionError: No trial was completed.
    """
    if not _ranking(study):
        raise OptionError(
            f"no trial of the study {study.study_name!r} in {job.storage} was completed, so there "
            "is no best architecture: give more --trials, a wider --limit, or another --directory "
            "to start again"
        )
    table = Table(
        "trial",
        "architecture",
        "accuracy",
        "parameters",
        "multiply-adds",
        *(["latency"] if job.worth.table is not None else []),
        title=f"best of {len(_ranking(study))} architectures ({job.worth.name})",
    )
    found: list[Architecture] = []
    for trial in _ranking(study):
        architecture = architecture_of(trial, job.space)
        if architecture in found:
            continue
        found.append(architecture)
        costs = trial.user_attrs
        table.add_row(
            str(trial.number),
            architecture.id,
            f"{job.worth.accuracy(trial.value, costs):.2%}",
            f"{costs['parameters']:,}",
            f"{costs['multiply_adds']:,}",
            *([f"{costs['latency_ms']:.2f} ms"] if job.worth.table is not None else []),
        )
        if len(found) == NUM_SHOWN:
            break
    job.console.print(table)
    return found[0]


def _compare(job: _Job, name: str, study: optuna.Study, baseline: optuna.Study) -> None:
    if not _ranking(baseline):
        job.console.print("random search found no architecture within the limits")
        return
    ours, random_search = study.best_value, baseline.best_value
    if ours > random_search:
        verdict = "beat"
    elif ours == random_search:
        verdict = "tied with"
    else:
        verdict = "did not beat"
    job.console.print(
        f"{name} {verdict} a random search of the same budget: {ours:.2%} against "
        f"{random_search:.2%} {job.worth.name}",
        soft_wrap=True,
    )


def _finish(job: _Job, architecture: Architecture, epochs: int) -> None:
    """Train the best longer, test it, draw it, export it."""
    folder = job.directory / f"best-{architecture.id}"
    with job.console.status(f"training the best architecture for {epochs} epochs"):
        result = job.train(architecture, Budget(epochs=epochs), directory=folder, test=True)
    drawing = folder / "architecture.svg"
    draw(job.space, architecture, drawing)
    child = ChildClassifier.load_from_checkpoint(
        result.checkpoint, map_location="cpu", network=job.space
    )
    exported = child.export(folder / "exported")
    job.console.print(f"test accuracy after {epochs} epochs: {result.metrics['test_acc']:.2%}")
    job.console.print(f"architecture  {exported[0]}", soft_wrap=True)
    job.console.print(f"drawing       {drawing}", soft_wrap=True)
    job.console.print(f"network       {exported[1]}", soft_wrap=True)
    job.console.print(
        f"in the dashboard: optuna-dashboard {job.storage} --artifact-dir {job.artifacts}",
        soft_wrap=True,
    )


def _space_options(options: argparse.Namespace) -> dict[str, Any]:
    """The user's options; on digits the network is small unless they say otherwise."""
    given = named_values(options.space_option)
    if options.data == "digits" and options.space == "nas_bench_201":
        return {"channels": 8, "num_cells": 1, **given}
    return given


def _strategy_options(options: argparse.Namespace) -> dict[str, Any]:
    """The user's options; evolution's population fits a short search unless they say."""
    given = named_values(options.strategy_option)
    if options.strategy == "regularized_evolution":
        return {"population_size": 8, "sample_size": 4, **given}
    return given
