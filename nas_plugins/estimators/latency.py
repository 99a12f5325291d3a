"""E5: how long a network takes, measured on the device at hand."""

from __future__ import annotations

import copy
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_plugins.architecture import Architecture, Choice
from nas_plugins.choices import Block, Builder, Factory, Merge
from nas_plugins.errors import NasPluginsError, UnsupportedSpaceError
from nas_plugins.estimators.latency_table import LatencyTable
from nas_plugins.space import SearchSpace

__all__ = ["Conditions", "DeviceError", "Latency", "latency", "latency_of", "measure_table"]

REST = ""
"""Stands for what belongs to no decision."""

PERCENTILES = (5, 25, 75, 95)


class DeviceError(NasPluginsError, ValueError):
    """The device is not here, or time cannot be measured on it."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a latency is measured under; a latency without them means nothing.

    Args:
        input_shape: Of one image, ``(channels, height, width)``.
        batch_size: Images in one pass.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        threads: Of PyTorch on the CPU.
        dtype: Of weights and images, such as ``float32`` or ``bfloat16``.
        warmup: Passes before the clock runs.
        repeats: Passes that are measured.

    Raises:
        DeviceError: No such device here.
        ValueError: Another value is out of range.
    """

    input_shape: tuple[int, ...]
    batch_size: int = 1
    device: str = "cpu"
    threads: int = 1
    dtype: str = "float32"
    warmup: int = 5
    repeats: int = 30

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        for name in ("batch_size", "threads", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(f"dtype is {self.dtype!r}; expected one such as 'float32'")
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
            raise DeviceError(
                f"device is {self.device!r}; expected 'cpu'"
                + (", 'cuda' or 'cuda:N'" if torch.cuda.is_available() else ": CUDA is not here")
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form, with the name of the device and the version of PyTorch."""
        return {
            **asdict(self),
            "input_shape": list(self.input_shape),
            "device_name": _device_name(torch.device(self.device)),
            "torch": torch.__version__,
        }


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a forward pass.

    Attributes:
        median_ms, mean_ms: Over the measured passes.
        percentiles_ms: Percentile to milliseconds.
        conditions: What they were measured under.
    """

    median_ms: float
    mean_ms: float
    percentiles_ms: Mapping[int, float]
    conditions: Conditions

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "median_ms": self.median_ms,
            "mean_ms": self.mean_ms,
            "percentiles_ms": {str(p): ms for p, ms in self.percentiles_ms.items()},
            "conditions": self.conditions.to_dict(),
        }


def latency(network: nn.Module, conditions: Conditions) -> Latency:
    """Time a network's forward pass, as it is evaluated and without gradients.

    On CUDA the time is that between two events on the device, which takes in all waiting
    for launches but neither the copy of the images nor the return of the result. A copy of
    the network is measured; the network itself is left as it is.

    Args:
        network: Takes one batch of images.
        conditions: Of the measurement.

    Raises:
        UnsupportedSpaceError: The network does not take images of that shape.
    """
    with _running(copy.deepcopy(network), conditions) as (run, clock):
        times = _times(run, clock, conditions.repeats)
    return Latency(
        median_ms=float(np.median(times)),
        mean_ms=float(np.mean(times)),
        percentiles_ms={p: float(np.percentile(times, p)) for p in PERCENTILES},
        conditions=conditions,
    )


def latency_of(
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    conditions: Conditions,
    **options: object,
) -> Latency:
    """Latency of an architecture's child, with random weights.

    Args:
        space: Where the architecture is from.
        architecture: Member of the space.
        conditions: Of the measurement.
        options: Of the network, as for :meth:`nas_plugins.SearchSpace.build`.
    """
    with torch.random.fork_rng(devices=[]):
        child = space.build(architecture, **options)
    return latency(child, conditions)


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
    less what decisions nested in them take; the constant is what is left of the whole,
    which is timed without these marks. So the numbers of one child add up to its latency,
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
        UnsupportedSpaceError: The space has no network.
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
    rng = np.random.default_rng(seed)
    found: dict[tuple[str, Choice], list[float]] = {key: [] for key in sorted(wanted, key=repr)}
    rest, fruitless, total = [], 0, rounds * len(wanted)
    while any(len(times) < rounds for times in found.values()) and fruitless < 100:
        before = _done(found, rounds)
        architecture = _least_measured(space, found, rng)
        times = _self_times(space, architecture, conditions, options)
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
    return LatencyTable(used, float(np.mean(rest)), stated)


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


def _self_times(
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
    with _running(child, conditions) as (run, clock):
        whole = float(np.median(_times(run, clock, conditions.repeats)))
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


def _times(run: Callable[[], object], clock: _Clock, repeats: int) -> list[float]:
    """Milliseconds of each of some passes."""
    times = []
    for _ in range(repeats):
        start = clock.mark()
        run()
        end = clock.mark()
        clock.synchronize()
        times.append(clock.milliseconds(start, end))
    return times


def _mark_around(module: nn.Module, label: str, marks: list[Any], clock: _Clock) -> None:
    module.register_forward_pre_hook(lambda *_: marks.append((label, clock.mark())))
    module.register_forward_hook(lambda *_: marks.append((None, clock.mark())))


def _nested(marks: Sequence[tuple[str | None, Any]], clock: _Clock) -> dict[str, float]:
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


class _Clock:
    """Marks in the order of the work: on CUDA events, so that nothing waits in between."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def synchronize(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    def milliseconds(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) if self._cuda else (end - start) * 1e3


@contextmanager
def _running(
    network: nn.Module, conditions: Conditions
) -> Iterator[tuple[Callable[[], Tensor], _Clock]]:
    """The network's forward pass under the conditions, warmed up, and a clock for it."""
    device, dtype = torch.device(conditions.device), getattr(torch, conditions.dtype)
    shape = (conditions.batch_size, *conditions.input_shape)
    clock, threads = _Clock(device), torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    try:
        network = network.to(device, dtype).eval()
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(shape, generator=generator).to(device, dtype)
        with torch.inference_mode(), _current(device):
            try:
                for _ in range(conditions.warmup + 1):
                    network(images)
            except RuntimeError as error:
                raise UnsupportedSpaceError(
                    f"{type(network).__name__} does not take images of shape {shape} as "
                    f"{conditions.dtype} on {conditions.device}: {error}"
                ) from error
            clock.synchronize()
            yield lambda: network(images), clock
    finally:
        torch.set_num_threads(threads)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
