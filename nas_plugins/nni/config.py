"""Writes the files of an experiment, so that no one writes NNI's JSON by hand."""

from __future__ import annotations

import importlib
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from nas_plugins import mutators, strategies
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.worth import Worth
from nas_plugins.nni.compat import write_loopback
from nas_plugins.nni.search_space import to_nni
from nas_plugins.registry import absolute
from nas_plugins.space import SearchSpace

__all__ = ["SupernetFirst", "write_config"]

TUNER = "nas_plugins.nni.tuner.ArchitectureTuner"
SUPERNET_TUNER = "nas_plugins.nni.supernet_tuner.SupernetTuner"
HYPERBAND = "nas_plugins.nni.hyperband.MendedHyperband"
TRIAL = "nas_plugins.nni.trial"
SUPERNET_TRIAL = "nas_plugins.nni.supernet_trial"
ASSESSORS = {"learning_curve": "nas_plugins.nni.assessor.LearningCurveAssessor"}
"""Name to class; each takes ``horizon`` and ``optimize_mode``."""

_HEADER = r"""# nnictl create --config config.yml
# NNI's manager then listens on every interface. To keep it on this machine, first:
#   export NODE_OPTIONS="--require \"{loopback}\""
"""


@dataclass(frozen=True)
class SupernetFirst:
    """An experiment's first trial trains a supernet, whose best architectures come next.

    Attributes:
        mutator: Name of the method that searches the supernet.
        options: Of the method.
        epochs: Of the supernet's training.
        num_ranked: How many of its best architectures are trained before the strategy
            proposes any; default: all trials.
        inherit_weights: Whether children start with the supernet's weights.
    """

    mutator: str
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 50
    num_ranked: int | None = None
    inherit_weights: bool = False


def write_config(
    space: str | SearchSpace,
    directory: str | Path,
    *,
    space_options: Mapping[str, Any] | None = None,
    strategy: str | None = None,
    strategy_options: Mapping[str, Any] | None = None,
    supernet: SupernetFirst | None = None,
    assessor: str | None = None,
    assessor_options: Mapping[str, Any] | None = None,
    hyperband: int | None = None,
    seed: int = 0,
    optimize_mode: str = "maximize",
    max_trials: int = 24,
    trial_concurrency: int = 1,
    trial_gpus: int = 0,
    epochs: int = 4,
    data: str = "digits",
    data_directory: str | Path | None = None,
    targets: Mapping[str, float] | None = None,
    limits: Mapping[str, float] | None = None,
    latency_table: str | Path | None = None,
    trial_command: str | None = None,
    history: str | Path | None = None,
    working_directory: str | Path | None = None,
    python: str = sys.executable,
) -> Path:
    """Write the files of ``nnictl create --config``.

    Those are ``config.yml``, ``search_space.json``, and ``loopback.cjs``, which keeps NNI's
    manager on this machine (:mod:`nas_plugins.nni.compat`). The search space holds the
    serialized ConfigurationSpace, so the tuner needs no other file and never builds a
    network: NNI gives it ten seconds to connect.

    Args:
        space: Name for :func:`nas_plugins.spaces.load`, or a space (then ``trial_command``
            has to be given, as a trial starts in a process of its own).
        directory: Where the files are written; made if absent.
        space_options: For a space given by name.
        strategy: Name of a strategy, or ``package.module:Class``; where nothing is said,
            ``regularized_evolution``.
        strategy_options: Of the strategy.
        supernet: Has a supernet trained first. Its trial comes on top of ``max_trials``.
        assessor: What stops trials that do not promise: ``learning_curve``
            (:class:`~nas_plugins.nni.LearningCurveAssessor`), or none.
        assessor_options: Of the assessor, but for its horizon, which is ``epochs``.
        hyperband: Has NNI's own Hyperband draw architectures instead of a strategy, train them
            for few epochs, and of so many (its eta) the best for as many times the epochs, up to
            ``epochs``. Trials that it promotes go on from their checkpoints.
        seed: Source of all randomness.
        optimize_mode: ``maximize`` or ``minimize`` the trials' ``default`` metric.
        max_trials: Architectures to evaluate.
        trial_concurrency: Trials at a time.
        trial_gpus: GPUs per trial; with 0 a trial sees none.
        epochs: Per trial.
        data: What children are trained on, as :func:`lightning_modules.catalogue.data_module`
            names it.
        data_directory: Where its images lie; not for the digits.
        targets: Name of a cost to the target of MnasNet's reward, which is then the score.
        limits: Name of a cost to the most it may be; what costs more is a failed trial.
        latency_table: File that ``nas-plugins latency`` wrote; adds the cost ``latency_ms``.
        trial_command: Instead of :mod:`nas_plugins.nni.trial`, run in ``directory``; it is handed
            neither data nor targets, limits and latency table, nor how a supernet is trained.
            ``epochs`` are then the assessor's horizon alone.
        history: An export of another experiment to start from.
        working_directory: Where NNI keeps the experiment (its default: ~/nni-experiments).
        python: Interpreter of the trials.

    Returns:
        Path of ``config.yml``.

    Raises:
        StrategyNameError: Unknown strategy or option; the message lists the known ones.
        MutatorNameError: The same of the supernet's method.
        SpaceNameError: Unknown space or option.
        ObjectiveError: A target or limit that means nothing.
        UnsupportedSpaceError: NNI cannot carry a decision, or there is no trial command.
        ValueError: Unknown assessor, an option of it that is out of its range, or what does not
            go together with ``hyperband`` or ``trial_command``.
        TypeError: The assessor does not take an option.
    """
    options = dict(strategy_options or {})
    if hyperband is not None:
        beside = (strategy, strategy_options or None, supernet, assessor, history)
        _check_hyperband(hyperband, beside, trial_concurrency)
    strategy = strategy or "regularized_evolution"
    strategies.check(strategy, options)  # cheap, so before a network is recorded
    if optimize_mode not in ("maximize", "minimize"):
        raise ValueError(f"optimize_mode is {optimize_mode!r}; expected maximize or minimize")
    if optimize_mode == "minimize" and trial_command is None:
        raise ValueError(
            "optimize_mode is 'minimize', and the trial here reports an accuracy; expected "
            "'maximize', or a trial_command of your own"
        )
    if trial_command is not None:
        _check_own_trial(
            data=data != "digits",
            data_directory=data_directory,
            targets=targets,
            limits=limits,
            latency_table=latency_table,
            supernet=supernet is not None
            and supernet != SupernetFirst(supernet.mutator, num_ranked=supernet.num_ranked),
        )
    if trial_gpus < 0:
        raise ValueError(f"trial_gpus is {trial_gpus}; expected 0 or more")
    reference = _reference(space)
    if isinstance(space, str):
        from nas_plugins.spaces import load

        space = load(space, **(space_options or {}))
    strategies.create(strategy, space, seed=seed, **options)
    num_ranked, method = 0, strategy if hyperband is None else "NNI's Hyperband"
    if supernet is not None:
        _check_supernet(supernet, space)
        method = f"a supernet of {supernet.mutator}"
        num_ranked = max_trials if supernet.num_ranked is None else supernet.num_ranked
    if history is not None and not Path(history).is_file():
        raise FileNotFoundError(f"no history {history}; expected a file of 'nni export'")
    if trial_command is None:
        from lightning_modules.catalogue import check_data

        check_data(data)
        parts = _trial_parts(reference, space_options, epochs, data, data_directory)
        parts += ["--seed", str(seed)]
        parts += _worth_parts(targets or {}, limits or {}, latency_table)
        if supernet is not None:
            parts += _supernet_parts(supernet, num_ranked)
        trial = TRIAL if supernet is None else SUPERNET_TRIAL
        trial_command = shlex.join([python, "-m", trial, *parts])
    config: dict[str, Any] = {
        "experimentName": f"{space.name} by {method}",
        "searchSpaceFile": "search_space.json",
        "trialCommand": trial_command,
        "trialCodeDirectory": ".",
        "trialConcurrency": trial_concurrency,
        "maxTrialNumber": max_trials + (supernet is not None),
        "trialGpuNumber": trial_gpus,
        "tuner": {
            "className": TUNER if supernet is None else SUPERNET_TUNER,
            "codeDirectory": ".",
            "classArgs": {
                **({"mutator": supernet.mutator, "num_ranked": num_ranked} if supernet else {}),
                "strategy": strategy,
                "seed": seed,
                "optimize_mode": optimize_mode,
                **({"history": str(Path(history).resolve())} if history else {}),
                **options,
            },
        },
        "trainingService": {
            "platform": "local",
            **({"useActiveGpu": False} if trial_gpus else {}),
        },
    }
    if hyperband is not None:
        config["tuner"]["className"] = HYPERBAND
        brackets = {"optimize_mode": optimize_mode, "R": epochs, "eta": hyperband, "seed": seed}
        config["tuner"]["classArgs"] = brackets
    if assessor is not None:
        config["assessor"] = _assessor(
            assessor,
            {"horizon": epochs, "optimize_mode": optimize_mode, **(assessor_options or {})},
        )
    if working_directory is not None:
        config["experimentWorkingDirectory"] = str(Path(working_directory).resolve())
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    search_space = json.dumps(to_nni(space), indent=2)
    (directory / "search_space.json").write_text(search_space + "\n", encoding="utf-8")
    path = directory / "config.yml"
    text = yaml.safe_dump(config, sort_keys=False, width=100)
    path.write_text(_HEADER.format(loopback=write_loopback(directory).resolve()) + text, "utf-8")
    return path


def _check_own_trial(**beside: Any) -> None:
    """Refuse what only the trial here reads."""
    given = [name for name, value in beside.items() if value]
    if given:
        raise ValueError(
            f"{', '.join(given)} would be for the trial here, and trial_command is another; "
            "expected them in that command, as far as it takes them"
        )


def _check_hyperband(eta: int, beside: tuple[Any, ...], concurrency: int) -> None:
    """Refuse what NNI's Hyperband does not go together with."""
    if eta < 2:
        raise ValueError(f"hyperband is {eta}; expected an eta of at least 2")
    if any(other is not None for other in beside):
        raise ValueError(
            "hyperband is NNI's own tuner and assessor in one; expected no strategy, supernet, "
            "assessor or history beside it"
        )
    if concurrency > 1:
        raise ValueError(
            f"trial_concurrency is {concurrency}; expected 1 with hyperband, since NNI 3.0 mixes "
            "up which of several trials ended"
        )


def _assessor(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The section of an assessor, which was made once to see that it can be."""
    if name not in ASSESSORS:
        raise ValueError(f"unknown assessor {name!r}; expected one of {sorted(ASSESSORS)}")
    module, _, attribute = ASSESSORS[name].rpartition(".")
    getattr(importlib.import_module(module), attribute)(**arguments)
    return {"className": ASSESSORS[name], "codeDirectory": ".", "classArgs": dict(arguments)}


def _check_supernet(first: SupernetFirst, space: SearchSpace) -> None:
    """Refuse what the first trial could not train, or the others not use."""
    method = mutators.check(first.mutator, first.options)
    mutators.create(first.mutator, space.supernet(), **first.options)
    if first.inherit_weights and not method.inherits_weights:
        raise UnsupportedSpaceError(
            f"{method.__name__} changes the supernet's paths, so that children cannot take their "
            "weights; use inherit_weights=False"
        )


def _reference(space: str | SearchSpace) -> str | None:
    """The space's name as a trial can use it, which starts in another directory."""
    return absolute(space) if isinstance(space, str) else None


def _trial_parts(
    reference: str | None,
    space_options: Mapping[str, Any] | None,
    epochs: int,
    data: str,
    data_directory: str | Path | None,
) -> list[str]:
    if reference is None:
        raise UnsupportedSpaceError(
            "a trial runs in a process of its own and cannot be handed a SearchSpace: give the "
            "space by name ('package.module:callable'), or a trial_command that makes it"
        )
    parts = ["--space", reference]
    if space_options:
        parts += ["--space-options", json.dumps(dict(space_options))]
    parts += ["--epochs", str(epochs)]
    if data != "digits":
        parts += ["--data", absolute(data)]
    if data_directory is not None:
        parts += ["--data-dir", str(Path(data_directory).resolve())]
    return parts


def _worth_parts(
    targets: Mapping[str, float], limits: Mapping[str, float], latency_table: str | Path | None
) -> list[str]:
    Worth.read(targets, limits, latency_table)  # refuses what no trial could use
    parts = [] if latency_table is None else ["--latency-table", str(Path(latency_table).resolve())]
    for option, costs in {"--targets": targets, "--limits": limits}.items():
        if costs:
            parts += [option, json.dumps(dict(costs))]
    return parts


def _supernet_parts(supernet: SupernetFirst, num_ranked: int) -> list[str]:
    parts = ["--mutator", supernet.mutator, "--supernet-epochs", str(supernet.epochs)]
    parts += ["--num-ranked", str(num_ranked)]
    if supernet.options:
        parts += ["--mutator-options", json.dumps(dict(supernet.options))]
    if supernet.inherit_weights:
        parts.append("--inherit-weights")
    return parts
