"""The command line: ``nas-plugins`` or ``python -m nas_plugins``.

Thin: each command calls what a user would call from Python. Frameworks are imported by the
command that needs them, so ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas_plugins.errors import NasPluginsError

__all__ = ["main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

BASELINE = "random_baseline"
"""Name of the study that ``search`` compares its own with."""

SETTINGS = "nas_plugins:settings"
"""User attribute in which ``search`` notes what a study was made with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (NasPluginsError, FileNotFoundError, ValueError) as error:
        print(f"nas-plugins: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        status = INTERRUPTED
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    if status == INTERRUPTED:
        print("\ninterrupted; run the same command again to continue", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    from nas_plugins import __version__

    parser = argparse.ArgumentParser(
        prog="nas-plugins",
        description="Neural architecture search inside the tuner you already run.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_search,
        _add_report,
        _add_draw,
        _add_export,
        _add_space,
        _add_latency,
        _add_nni_config,
    ):
        add(commands)
    return parser


Commands = Any  # argparse's subparsers action is not a public type


def _add_search(commands: Commands) -> None:
    parser = _command(
        commands,
        "search",
        "search an architecture: an Optuna study whose trials train children with Lightning",
        "nas_plugins.cli.search",
    )
    _add_space_options(parser)
    _add_data(parser)
    _add_strategy(parser)
    parser.add_argument("--batch-size", type=_positive, default=64, help="images per step")
    parser.add_argument(
        "--data-fraction", type=float, default=1.0, help="share of the training images, (0, 1]"
    )
    _add_costs(parser)
    parser.add_argument(
        "--final-epochs", type=_positive, default=20, help="epochs for the best architecture"
    )
    parser.add_argument(
        "--no-baseline",
        dest="baseline",
        action="store_false",
        help="skip the random search of the same budget that the result is compared with",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("runs/search"),
        help="where the study, the drawing and the exported network go; an existing study there "
        "is continued",
    )
    parser.add_argument(
        "--storage",
        help="Optuna storage URL, or the file of a journal; default: an SQLite file in --directory",
    )
    parser.add_argument(
        "--threads",
        type=_positive,
        default=1,
        help="CPU threads of PyTorch; small networks only wait for a second one",
    )
    parser.add_argument("--accelerator", default="auto", help="Lightning's: auto, cpu, gpu, ...")


def _add_report(commands: Commands) -> None:
    parser = _command(
        commands,
        "report",
        "write a study as one HTML page: Pareto front, best so far, architectures drawn; a study "
        "of `nas-plugins search` knows its space",
        "nas_plugins.cli.report",
    )
    parser.add_argument(
        "--storage", required=True, help="Optuna storage URL, or the file of a journal"
    )
    parser.add_argument("--study", help="its name; needed where the storage holds several")
    _add_space_options(parser, default=None)
    parser.add_argument(
        "--objective",
        action="append",
        metavar="NAME",
        help="name of an objective, with its unit; once for each, in their order",
    )
    parser.add_argument(
        "--image-shape",
        type=_shape,
        metavar="C,H,W",
        help="count parameters and multiply-adds of all architectures for images of this shape",
    )
    parser.add_argument(
        "--drawn", type=_positive, default=100, help="how many architectures are drawn"
    )
    parser.add_argument("output", type=Path, help="HTML file to write")


def _add_draw(commands: Commands) -> None:
    parser = _command(
        commands, "draw", "draw an architecture to SVG, PNG or PDF", "nas_plugins.cli.commands"
    )
    _add_space_options(parser)
    _add_architecture(parser)
    parser.add_argument("output", type=Path, help="file to write; its suffix is the format")


def _add_export(commands: Commands) -> None:
    parser = _command(
        commands,
        "export",
        "write an architecture and its trained weights as an ordinary network",
        "nas_plugins.cli.commands",
    )
    _add_space_options(parser, default=None)
    parser.add_argument("checkpoint", type=Path, help="Lightning checkpoint of the trained child")
    parser.add_argument("directory", type=Path, help="where the files are written")
    parser.add_argument(
        "--format",
        dest="formats",
        action="append",
        choices=["state_dict", "torchscript", "program", "onnx"],
        help="may be repeated; default: state_dict and torchscript",
    )


def _add_space(commands: Commands) -> None:
    parser = _command(
        commands,
        "space",
        "print a space: its size, decisions and an example",
        "nas_plugins.cli.commands",
    )
    _add_space_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the example")
    parser.add_argument("--json", action="store_true", help="print the space as ConfigSpace JSON")
    parser.add_argument("--list", action="store_true", help="print the names of all spaces")


def _add_latency(commands: Commands) -> None:
    parser = _command(
        commands,
        "latency",
        "measure what each choice of a space takes on this device, and how well the sums agree "
        "with whole networks",
        "nas_plugins.cli.latency",
    )
    _add_space_options(parser)
    parser.add_argument("table", type=Path, help="JSON file to write")
    parser.add_argument(
        "--image-size",
        type=_positive,
        required=True,
        help="height and width of the images, such as 224 for ImageNet or 32 for CIFAR",
    )
    parser.add_argument("--batch-size", type=_positive, default=1, help="images per pass")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: CUDA where it is")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--dtype", default="float32", help="such as float16 or bfloat16")
    parser.add_argument(
        "--rounds", type=_positive, default=3, help="networks in which each choice is timed"
    )
    parser.add_argument("--repeats", type=_positive, default=30, help="passes of each network")
    parser.add_argument(
        "--check", type=_positive, default=20, help="other networks to compare the table with"
    )
    parser.add_argument(
        "--fit",
        type=_positive,
        metavar="N",
        help="fit the table to the latencies of N whole networks instead of timing modules; for "
        "spaces in which a choice changes the work of others, as numbers of channels do",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the networks")


def _add_nni_config(commands: Commands) -> None:
    parser = _command(
        commands,
        "nni-config",
        "write the files that `nnictl create --config` needs",
        "nas_plugins.cli.commands",
    )
    _add_space_options(parser)
    parser.add_argument("directory", type=Path, help="where the files are written")
    _add_strategy(parser, unless_given=True)  # --hyperband goes with none
    parser.add_argument("--concurrency", type=_positive, default=1, help="trials at a time")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of a trial")
    _add_data(parser)
    _add_costs(parser)
    parser.add_argument(
        "--assessor",
        metavar="NAME",
        help="stop trials that do not promise: learning_curve; needs --epochs of 5 or more",
    )
    parser.add_argument(
        "--assessor-option",
        action="append",
        metavar="NAME=VALUE",
        help="option of the assessor, such as interval=5; may be repeated",
    )
    parser.add_argument(
        "--hyperband",
        type=int,
        metavar="ETA",
        help="let NNI's Hyperband draw architectures instead of --strategy, and train the best of "
        "each ETA that many times longer, up to --epochs",
    )
    _add_supernet(parser)


def _add_supernet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--supernet",
        metavar="METHOD",
        help="first train a supernet by this method (darts, gdas, enas, uniform, ...), then the "
        "architectures that it ranks best",
    )
    parser.add_argument(
        "--supernet-option",
        action="append",
        metavar="NAME=VALUE",
        help="option of the method, such as num_candidates=100; may be repeated",
    )
    parser.add_argument(
        "--supernet-epochs",
        type=_positive,
        default=argparse.SUPPRESS,
        help="epochs of the supernet (default: 50)",
    )
    parser.add_argument(
        "--ranked",
        type=_positive,
        metavar="K",
        help="trials for the supernet's best; what follows the strategy proposes (default: all)",
    )
    parser.add_argument(
        "--inherit-weights",
        action="store_true",
        help="children start with the supernet's weights",
    )


def _add_costs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--latency-table",
        type=Path,
        metavar="FILE",
        help="what `nas-plugins latency` wrote for the same space; adds the cost latency_ms",
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="COST=VALUE",
        help="search for accuracy * (COST / VALUE)^-0.07, MnasNet's reward; COST is latency_ms, "
        "parameters, multiply_adds or bits; may be repeated",
    )
    parser.add_argument(
        "--limit",
        action="append",
        metavar="COST=VALUE",
        help="train only what costs at most VALUE; other trials fail; may be repeated",
    )


def _add_strategy(parser: argparse.ArgumentParser, *, unless_given: bool = False) -> None:
    """With ``unless_given`` the options lack a strategy that was not named."""
    default = "regularized_evolution"
    parser.add_argument(
        "--strategy",
        default=argparse.SUPPRESS if unless_given else default,
        help=f"search strategy (default: {default})" if unless_given else "search strategy",
    )
    parser.add_argument(
        "--strategy-option",
        action="append",
        metavar="NAME=VALUE",
        help="option of the strategy, such as population_size=20; may be repeated",
    )
    parser.add_argument("--trials", type=_positive, default=24, help="architectures to train")
    parser.add_argument("--epochs", type=_positive, default=4, help="epochs per architecture")
    parser.add_argument("--seed", type=int, default=0, help="source of all randomness")


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        default="digits",
        help="images to train on: digits (they come with scikit-learn), cifar10, cifar100, "
        "fashion_mnist, folder, or package.module:callable",
    )
    parser.add_argument("--data-dir", type=Path, help="where the images of --data lie")


def _command(commands: Commands, name: str, help: str, module: str) -> argparse.ArgumentParser:
    """A subcommand run by the function of its name in a module that is imported late."""

    def run(options: argparse.Namespace) -> int | None:
        import importlib

        function = getattr(importlib.import_module(module), name.replace("-", "_"))
        return function(options)

    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _add_space_options(
    parser: argparse.ArgumentParser, default: str | None = "nas_bench_201"
) -> None:
    parser.add_argument(
        "--space",
        default=default,
        help="registered name, package.module:function, or path/to/file.py:function",
    )
    parser.add_argument(
        "--space-option",
        action="append",
        metavar="NAME=VALUE",
        help="option of the space, such as channels=8; may be repeated",
    )


def _add_architecture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "architecture", type=Path, help="architecture JSON file, or - for standard input"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def _shape(text: str) -> tuple[int, ...]:
    shape = tuple(_positive(size) for size in text.split(","))
    if len(shape) != 3:
        raise argparse.ArgumentTypeError(f"expected channels,height,width, got {text!r}")
    return shape


def named_values(items: Sequence[str] | None) -> dict[str, Any]:
    """``["channels=8", "name=x"]`` as a mapping; values are JSON where they can be.

    Raises:
        OptionError: An item has no ``=``.
    """
    values: dict[str, Any] = {}
    for item in items or ():
        name, equals, text = item.partition("=")
        if not equals:
            raise OptionError(f"option {item!r} has no value; expected NAME=VALUE")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


class OptionError(NasPluginsError, ValueError):
    """A command-line option cannot be read."""
