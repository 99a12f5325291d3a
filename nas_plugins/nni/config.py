"""Writes the files of an experiment, so that no one writes NNI's JSON by hand."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from nas_plugins import strategies
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.nni.compat import write_loopback
from nas_plugins.nni.search_space import to_nni
from nas_plugins.space import SearchSpace

__all__ = ["write_config"]

TUNER = "nas_plugins.nni.tuner.ArchitectureTuner"

_HEADER = r"""# nnictl create --config config.yml
# NNI's manager then listens on every interface. To keep it on this machine, first:
#   export NODE_OPTIONS="--require \"{loopback}\""
"""


def write_config(
    space: str | SearchSpace,
    directory: str | Path,
    *,
    space_options: Mapping[str, Any] | None = None,
    strategy: str = "regularized_evolution",
    strategy_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    optimize_mode: str = "maximize",
    max_trials: int = 24,
    trial_concurrency: int = 1,
    trial_gpus: int = 0,
    epochs: int = 4,
    data: str = "digits",
    data_directory: str | Path | None = None,
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
        strategy: Name of a strategy, or ``package.module:Class``.
        strategy_options: Of the strategy.
        seed: Source of all randomness.
        optimize_mode: ``maximize`` or ``minimize`` the trials' ``default`` metric.
        max_trials: Architectures to evaluate.
        trial_concurrency: Trials at a time.
        trial_gpus: GPUs per trial; with 0 a trial sees none.
        epochs: Per trial.
        data: What children are trained on, as :func:`lightning_modules.catalogue.data_module`
            names it.
        data_directory: Where its images lie; not for the digits.
        trial_command: Instead of :mod:`nas_plugins.nni.trial`.
        history: An export of another experiment to start from.
        working_directory: Where NNI keeps the experiment (its default: ~/nni-experiments).
        python: Interpreter of the trials.

    Returns:
        Path of ``config.yml``.

    Raises:
        StrategyNameError: Unknown strategy or option; the message lists the known ones.
        SpaceNameError: Unknown space or option.
        UnsupportedSpaceError: NNI cannot carry a decision, or there is no trial command.
    """
    options = dict(strategy_options or {})
    strategies.check(strategy, options)  # cheap, so before a network is recorded
    if optimize_mode not in ("maximize", "minimize"):
        raise ValueError(f"optimize_mode is {optimize_mode!r}; expected maximize or minimize")
    reference = _reference(space)
    if isinstance(space, str):
        from nas_plugins.spaces import load

        space = load(space, **(space_options or {}))
    strategies.create(strategy, space, seed=seed, **options)
    if trial_command is None:
        trial_command = _trial_command(reference, space_options, python)
        trial_command += " " + shlex.join(_training(epochs, data, data_directory))
    config: dict[str, Any] = {
        "experimentName": f"{space.name} by {strategy}",
        "searchSpaceFile": "search_space.json",
        "trialCommand": trial_command,
        "trialCodeDirectory": ".",
        "trialConcurrency": trial_concurrency,
        "maxTrialNumber": max_trials,
        "trialGpuNumber": trial_gpus,
        "tuner": {
            "className": TUNER,
            "codeDirectory": ".",
            "classArgs": {
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


def _reference(space: str | SearchSpace) -> str | None:
    """The space's name as a trial can use it, which starts in another directory."""
    if not isinstance(space, str):
        return None
    source, separator, attribute = space.rpartition(":")
    if separator and source.endswith(".py"):
        return f"{Path(source).resolve()}:{attribute}"
    return space


def _training(epochs: int, data: str, directory: str | Path | None) -> list[str]:
    parts = ["--epochs", str(epochs)]
    if data != "digits":
        parts += ["--data", data]
    if directory is not None:
        parts += ["--data-dir", str(Path(directory).resolve())]
    return parts


def _trial_command(
    reference: str | None, space_options: Mapping[str, Any] | None, python: str
) -> str:
    if reference is None:
        raise UnsupportedSpaceError(
            "a trial runs in a process of its own and cannot be handed a SearchSpace: give the "
            "space by name ('package.module:callable'), or a trial_command that makes it"
        )
    parts = [python, "-m", "nas_plugins.nni.trial", "--space", reference]
    if space_options:
        parts += ["--space-options", json.dumps(dict(space_options))]
    return shlex.join(parts)
