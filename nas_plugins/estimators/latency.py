"""How long a network takes, measured on the device at hand."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_plugins.architecture import Choice
from nas_plugins.errors import NasPluginsError, UnsupportedSpaceError
from nas_plugins.space import SearchSpace

__all__ = [
    "Clock",
    "Conditions",
    "DeviceError",
    "Latency",
    "latency",
    "latency_of",
    "pass_times",
    "running",
]

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
    with running(copy.deepcopy(network), conditions) as (run, clock):
        times = pass_times(run, clock, conditions.repeats)
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


# -- the clock ---------------------------------------------------------------------------


def pass_times(run: Callable[[], object], clock: Clock, repeats: int) -> list[float]:
    """Milliseconds of each of some passes."""
    times = []
    for _ in range(repeats):
        start = clock.mark()
        run()
        end = clock.mark()
        clock.synchronize()
        times.append(clock.milliseconds(start, end))
    return times


class Clock:
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
def running(
    network: nn.Module, conditions: Conditions
) -> Iterator[tuple[Callable[[], Tensor], Clock]]:
    """The network's forward pass under the conditions, warmed up, and a clock for it.

    The network itself is moved to the device and number format, and into evaluation mode.
    """
    device, dtype = torch.device(conditions.device), getattr(torch, conditions.dtype)
    shape = (conditions.batch_size, *conditions.input_shape)
    clock, threads = Clock(device), torch.get_num_threads()
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
