"""Measure what a space's choices cost on this device."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from nas_plugins import Architecture, SearchSpace
from nas_plugins.cli import OptionError
from nas_plugins.cli.commands import space_of
from nas_plugins.estimators.latency import Conditions, latency_of
from nas_plugins.estimators.latency_profile import measure_table
from nas_plugins.estimators.latency_table import Agreement, LatencyTable, fit_table

__all__ = ["latency"]

LEAST_SHARE = 0.9
"""Of a CPU that this process should have had for itself."""

LEAST_KENDALL = 0.7


def latency(options: argparse.Namespace) -> None:
    """Write a table of latencies and say how far its sums are from whole networks."""
    space = space_of(options)
    if not options.table.parent.is_dir():
        raise OptionError(f"no directory {options.table.parent} to write {options.table.name} to")
    conditions = Conditions(
        input_shape=(space.options.get("in_channels", 3), options.image_size, options.image_size),
        batch_size=options.batch_size,
        device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        threads=options.threads,
        dtype=options.dtype,
        repeats=options.repeats,
    )
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    started = time.perf_counter(), time.process_time()
    rng = np.random.default_rng([options.seed, 1])  # other architectures than the table is made of
    with Progress(*columns, console=console) as progress:
        table = (
            _fitted(space, conditions, options, progress)
            if options.fit
            else _measured(space, conditions, options, progress)
        )
        table.write(options.table)  # before the check, which may be interrupted
        others = [space.sample(rng) for _ in range(options.check)]
        times = _end_to_end(space, conditions, progress.track(others, description="checking it"))
    _show(console, options, table, table.agreement(others, times), times)
    share = (time.process_time() - started[1]) / (time.perf_counter() - started[0])
    if conditions.device == "cpu" and share < LEAST_SHARE:
        console.print(
            f"other work had the CPU for {1 - share:.0%} of the time, so these latencies are too "
            "long: measure again on a quiet machine",
            soft_wrap=True,
        )


def _measured(
    space: SearchSpace, conditions: Conditions, options: argparse.Namespace, progress: Progress
) -> LatencyTable:
    task = progress.add_task("timing each choice", total=None)
    return measure_table(
        space,
        conditions,
        rounds=options.rounds,
        seed=options.seed,
        progress=lambda done, total: progress.update(task, completed=done, total=total),
    )


def _fitted(
    space: SearchSpace, conditions: Conditions, options: argparse.Namespace, progress: Progress
) -> LatencyTable:
    rng = np.random.default_rng([options.seed, 0])
    chosen = [space.sample(rng) for _ in range(options.fit)]
    tracked = progress.track(chosen, description="timing whole networks")
    times = _end_to_end(space, conditions, tracked)
    stated = {"space": space.name, "options": space.options, **conditions.to_dict()}
    return fit_table(chosen, times, conditions={**stated, "fit": options.fit, "seed": options.seed})


def _end_to_end(
    space: SearchSpace, conditions: Conditions, architectures: Iterable[Architecture]
) -> list[float]:
    return [latency_of(space, a, conditions).median_ms for a in architectures]


def _show(
    console: Console,
    options: argparse.Namespace,
    table: LatencyTable,
    error: Agreement,
    times: Sequence[float],
) -> None:
    stated = table.conditions
    console.print(
        f"{stated['device_name']}, {stated['threads']} thread(s), {stated['dtype']}, batch of "
        f"{stated['batch_size']}, images {'x'.join(map(str, stated['input_shape']))}, median of "
        f"{stated['repeats']} passes",
        soft_wrap=True,
    )
    console.print(
        f"{error.num_architectures} other architectures take {min(times):.2f} to "
        f"{max(times):.2f} ms; the table is off by {error.mean_absolute_ms:.2f} ms on average "
        f"({error.mean_relative:.1%}; bias {error.bias_ms:+.2f} ms), Pearson {error.pearson:.3f}, "
        f"Kendall {error.kendall:.3f}",
        soft_wrap=True,
    )
    if error.kendall < LEAST_KENDALL and not options.fit:
        console.print(
            "such a table orders networks badly; if the machine was quiet, choices change each "
            "other's work here: fit it to several hundred networks with --fit N",
            soft_wrap=True,
        )
    console.print(f"table  {options.table}", soft_wrap=True)
