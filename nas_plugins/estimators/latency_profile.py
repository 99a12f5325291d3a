"""What each choice takes, measured from inside the networks it occurs in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.choices import Block, Builder, Factory, Merge
from nas_plugins.errors import UnsupportedSpaceError
from nas_plugins.estimators.latency import Clock, Conditions, pass_times, running
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.space import SearchSpace

__all__ = ["measure_table"]

REST = ""
"""Stands for what belongs to no decision."""


def measure_table(
    space: SearchSpace,
    conditions: Conditions,
    *,
    rounds: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> LatencyTable:
    """Milliseconds of every choice, taken from inside the children it occurs in.

    Random children run end to end while the modules that answer their decisions are timed.
    A choice's cost is what its modules take in one pass, in all places of the same label,
    less what decisions nested in them take; the constant is what is left of the whole, at
    least 0, which is timed without these marks. So the numbers of one child add up to its latency,
    and every module meets the shapes, the caches and the queue of launches that it has in
    the network. Modules timed alone, as in published tables (Cai et al. 2019,
    arXiv:1812.00332, section 3.3.1), run from a warm cache; differences of whole networks
    drown a small module in the noise of the large rest.

    A number is the mean over the children of the median over their passes. What another
    decision does to a module is averaged over in it: a ``value`` that shapes the module, or a
    depth that says in how many places its label stands. Where that is much, as in the MnasNet
    space, :func:`~nas_plugins.estimators.latency_table.fit_table` is the better choice. A
    layer chosen within a layer, one module with two labels, counts to the outer one.

    Args:
        space: With a network.
        conditions: Of the measurement.
        rounds: Children in which each choice is measured, at least.
        seed: Of the children.
        progress: Called after each child with what is done and what there is to do.
        options: Of the network.

    Raises:
        UnsupportedSpaceError: The space has no network, or chooses no modules.
    """
    if space.network is None:
        raise UnsupportedSpaceError(
            f"space {space.name!r} has no network, so there is nothing to time; define it with "
            "SearchSpace.from_network"
        )
    wanted = {
        (label, choice)
        for label, decision in space.decisions.items()
        if decision.verb in ("layer", "inputs", "repeat")
        for choice in decision.all_choices()
    }
    if not wanted:
        raise UnsupportedSpaceError(
            f"space {space.name!r} chooses no modules, so that none can be timed alone; fit a "
            "table to whole networks instead: fit_table, or nas-plugins latency --fit N"
        )
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, Choice], list[float]] = {key: [] for key in sorted(wanted, key=repr)}
    rest, fruitless, total = [], 0, rounds * len(wanted)
    while any(len(times) < rounds for times in found.values()) and fruitless < 100:
        before = _done(found, rounds)
        architecture = _least_measured(space, found, rng)
        times = _selfpass_times(space, architecture, conditions, options)
        rest.append(times[REST])
        for key in found.keys() & set(architecture.items()):
            found[key].append(times[key[0]])
        done = _done(found, rounds)
        fruitless = fruitless + 1 if done == before else 0  # no architecture has what is missing
        if progress is not None:
            progress(done, total)
    table: dict[str, dict[str, float]] = {}
    for (label, choice), ms in found.items():
        if ms:
            table.setdefault(label, {})[str(choice)] = float(np.mean(ms))
    used = {label: costs for label, costs in table.items() if any(costs.values())}
    network = {"space": space.name, "options": {**space.options, **options}}
    stated = {**network, **conditions.to_dict(), "rounds": rounds, "seed": seed}
    # The marks take time too: where little is left of the whole, it would come out below zero.
    return LatencyTable(used, max(0.0, float(np.mean(rest))), stated)


# -- which children -----------------------------------------------------------------------


def _done(found: Mapping[tuple[str, Choice], Sequence[float]], rounds: int) -> int:
    return sum(min(len(times), rounds) for times in found.values())


def _least_measured(
    space: SearchSpace,
    found: Mapping[tuple[str, Choice], Sequence[float]],
    rng: np.random.Generator,
) -> Architecture:
    """An architecture of the choices with the fewest measurements, random among equals."""
    given: dict[str, Choice] = {}
    for label, decision in space.decisions.items():
        choices = [c for c in decision.all_choices(2) if (label, c) in found]
        if choices:
            counts = [len(found[label, choice]) for choice in choices]
            least = [c for c, n in zip(choices, counts, strict=True) if n == min(counts)]
            given[label] = least[rng.integers(len(least))]
    try:
        return space.sample(rng, given=given)
    except UnsupportedSpaceError:  # these together are forbidden
        return space.sample(rng)


# -- time inside a network ----------------------------------------------------------------


class _Noting(Builder):
    """Builds a child and notes which module answers which decision."""

    def __init__(self, architecture: Mapping[str, Choice]) -> None:
        super().__init__(architecture)
        self.labels: dict[nn.Module, str] = {}

    def _layer(
        self, label: str, candidates: dict[str, Factory], only_in_mixture: dict[str, Factory]
    ) -> nn.Module:
        return self._noted(label, super()._layer(label, candidates, only_in_mixture))

    def _inputs(
        self,
        label: str,
        candidates: dict[str, Factory],
        num_chosen: int | None,
        required: list[str],
        merge: Merge,
    ) -> nn.Module:
        merged = super()._inputs(label, candidates, num_chosen, required, merge)
        if num_chosen is not None:
            return self._noted(label, merged)
        for name, edge in merged.get_submodule("edges").named_children():
            if name not in required:
                self._noted(f"{label}/{name}", edge)
        return merged

    def _repeat(self, label: str, block: Block, depths: list[int], head: Block | None) -> nn.Module:
        return self._noted(label, super()._repeat(label, block, depths, head))

    def _noted(self, label: str, module: nn.Module) -> nn.Module:
        self.labels[module] = label
        return module


def _selfpass_times(
    space: SearchSpace,
    architecture: Architecture,
    conditions: Conditions,
    options: Mapping[str, object],
) -> defaultdict[str, float]:
    """Label to milliseconds of its modules less what is nested in them; medians over passes.

    What is left of the whole stands under ``REST``.
    """
    assert space.network is not None
    noting = _Noting(architecture)
    with torch.random.fork_rng(devices=[]):
        child = space.network(noting, **{**space.options, **options})
    with running(child, conditions) as (run, clock):
        whole = float(np.median(pass_times(run, clock, conditions.repeats)))
        marks: list[tuple[str | None, Any]] = []  # label where one opens, None where it closes
        for module, label in noting.labels.items():
            _mark_around(module, label, marks, clock)
        passes = []
        for _ in range(conditions.repeats):
            marks.clear()
            run()
            clock.synchronize()
            passes.append(_nested(marks, clock))
    labels = {label for times in passes for label in times}
    medians = {k: float(np.median([times.get(k, 0.0) for times in passes])) for k in labels}
    return defaultdict(float, {**medians, REST: whole - sum(medians.values())})


def _mark_around(module: nn.Module, label: str, marks: list[Any], clock: Clock) -> None:
    module.register_forward_pre_hook(lambda *_: marks.append((label, clock.mark())))
    module.register_forward_hook(lambda *_: marks.append((None, clock.mark())))


def _nested(marks: Sequence[tuple[str | None, Any]], clock: Clock) -> dict[str, float]:
    """Self time of each label from marks that open and close like brackets."""
    times: defaultdict[str, float] = defaultdict(float)
    stack: list[tuple[str, Any]] = []
    for label, mark in marks:
        if label is not None:
            stack.append((label, mark))
            continue
        opened, start = stack.pop()
        took = clock.milliseconds(start, mark)
        times[opened] += took
        if stack:
            times[stack[-1][0]] -= took
    return times
