"""A study as one page."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from nas_plugins import Architecture, SearchSpace
from nas_plugins.cli import BASELINE, SETTINGS, OptionError, named_values
from nas_plugins.cli.storage import opened
from nas_plugins.optuna.report import write_study_report
from nas_plugins.spaces import load

__all__ = ["report"]


def report(options: argparse.Namespace) -> None:
    """Write the page of an Optuna study."""
    study = _study(options)
    name, space_options = _space_of(options, study)
    space = load(name, **space_options)
    arguments = ["--space", name]
    for option, value in space_options.items():
        arguments += ["--space-option", f"{option}={json.dumps(value)}"]
    path = write_study_report(
        study,
        space,
        options.output,
        objectives=options.objective,
        cost=_counter(space, options.image_shape),
        num_drawn=options.drawn,
        space_arguments=shlex.join(arguments),
    )
    print(path)


def _study(options: argparse.Namespace) -> optuna.Study:
    scheme, _, path = options.storage.partition("sqlite:///")
    if not scheme and not Path(path.partition("?")[0]).is_file():  # SQLite would make it
        raise OptionError(f"no database {path}; expected the file of an earlier study")
    if "://" not in options.storage and not Path(options.storage).is_file():
        raise OptionError(
            f"no journal {options.storage}; expected a file of Optuna's journal, or a URL "
            "such as sqlite:///study.db"
        )
    if "://" not in options.storage and Path(options.storage).read_bytes()[:6] == b"SQLite":
        raise OptionError(
            f"{options.storage} is a database; expected its URL, sqlite:///{options.storage}"
        )
    storage = opened(options.storage)
    known = sorted(optuna.get_all_study_names(storage))
    name = options.study
    if name is None:  # what was searched, not what it is compared with
        names = [n for n in known if n != BASELINE] or known
        if len(names) > 1:
            raise OptionError(f"{options.storage} holds several studies; give --study, of {known}")
        name = names[0] if names else None
    if name not in known:
        raise OptionError(f"no study {name!r} in {options.storage}; there are {known}")
    return optuna.load_study(study_name=name, storage=storage)


def _space_of(options: argparse.Namespace, study: optuna.Study) -> tuple[str, dict[str, Any]]:
    """Name and options: those given, or what ``nas-plugins search`` noted in the study."""
    noted = study.user_attrs.get(SETTINGS, {})
    if options.space is not None:
        return options.space, named_values(options.space_option)
    if "space" not in noted:
        raise OptionError(
            f"the study {study.study_name!r} does not say which space it searches; give --space"
        )
    return noted["space"], {**noted["space_options"], **named_values(options.space_option)}


def _counter(
    space: SearchSpace, image_shape: tuple[int, ...] | None
) -> Callable[[Architecture], Mapping[str, float]] | None:
    if image_shape is None:
        return None

    from nas_plugins.estimators.cost import cost_of

    return lambda architecture: cost_of(space, architecture, image_shape).to_dict()
