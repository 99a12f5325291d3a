"""The commands that print or write something and are done."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from nas_plugins import Architecture, SearchSpace
from nas_plugins.cli import OptionError, named_values
from nas_plugins.spaces import REGISTRY, load

__all__ = ["draw", "export", "nni_config", "space", "space_of"]


def space_of(options: argparse.Namespace) -> SearchSpace:
    """The space that ``--space`` and ``--space-option`` name."""
    return load(options.space, **named_values(options.space_option))


def space(options: argparse.Namespace) -> None:
    """Size, decisions and an example of a space."""
    if options.list:
        print("\n".join(sorted(REGISTRY)))
        return
    chosen = space_of(options)
    if options.json:
        print(chosen.to_json())
        return
    table = Table("decision", "asked as", "choices", "active when")
    for decision in chosen.decisions.values():
        table.add_row(
            decision.label, decision.verb, decision.describe(), decision.describe_condition()
        )
    console = Console()
    size = chosen.size
    console.print(
        f"[bold]{chosen.name}[/]: {size if size == float('inf') else f'{size:,}'} "
        f"architectures of {len(chosen.decisions)} decisions"
    )
    console.print(table)
    example = chosen.sample(np.random.default_rng(options.seed))
    print(f"example (seed {options.seed}):\n{example.to_json(indent=2)}")


def draw(options: argparse.Namespace) -> None:
    """Draw an architecture to a file."""
    from nas_plugins.drawing import draw as draw_to

    chosen = space_of(options)
    draw_to(chosen, chosen.validate(_read_architecture(options.architecture)), options.output)
    print(options.output)


def export(options: argparse.Namespace) -> None:
    """Write a trained child as an ordinary network."""
    from lightning_modules import ChildClassifier

    given = {} if options.space is None else {"network": space_of(options)}
    child = ChildClassifier.load_from_checkpoint(options.checkpoint, map_location="cpu", **given)
    formats = {"formats": options.formats} if options.formats else {}
    for path in child.export(options.directory, **formats):
        print(path)


def nni_config(options: argparse.Namespace) -> None:
    """Write NNI's config, search space and the space itself."""
    from nas_plugins.nni import SupernetFirst, write_config

    dependent = {
        "supernet": ("supernet_option", "supernet_epochs", "ranked", "inherit_weights"),
        "assessor": ("assessor_option",),
    }
    for needed, names in dependent.items():
        for name in names:
            if getattr(options, needed) is None and getattr(options, name, None):
                option = name.replace("_", "-")
                raise OptionError(f"--{option} is for --{needed}; expected that beside it")
    supernet = None
    if options.supernet is not None:
        supernet = SupernetFirst(
            options.supernet,
            named_values(options.supernet_option),
            epochs=getattr(options, "supernet_epochs", SupernetFirst.epochs),
            num_ranked=options.ranked,
            inherit_weights=options.inherit_weights,
        )
    path = write_config(
        options.space,
        options.directory,
        space_options=named_values(options.space_option),
        strategy=getattr(options, "strategy", None),
        strategy_options=named_values(options.strategy_option),
        supernet=supernet,
        assessor=options.assessor,
        assessor_options=named_values(options.assessor_option),
        hyperband=options.hyperband,
        max_trials=options.trials,
        trial_concurrency=options.concurrency,
        trial_gpus=options.gpus,
        epochs=options.epochs,
        targets=named_values(options.target),
        limits=named_values(options.limit),
        latency_table=options.latency_table,
        data=options.data,
        data_directory=options.data_dir,
        seed=options.seed,
    )
    print(f"nnictl create --config {path}")


def _read_architecture(path: Path) -> Architecture:
    if str(path) == "-":
        return Architecture.from_json(sys.stdin.read())
    if not path.is_file():
        raise OptionError(f"no architecture file {path}; expected a JSON file, or - to read one")
    return Architecture.from_json(path)
