"""How long something takes, on the clock and of the processor, and how much memory (on Linux)."""

from __future__ import annotations

import ctypes
import gc
import time
from pathlib import Path

__all__ = ["Figures", "Stopwatch"]

Figures = dict[str, float]
"""``step_s``, ``cpu_s`` and ``peak_mb``."""


class Stopwatch:
    """Runs from its making on; memory is the peak of what is resident over what was then."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, and counts when taken again
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        self._resident = _kilobytes("VmRSS")
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Figures:
        return {
            "step_s": time.perf_counter() - self._clock,
            "cpu_s": time.process_time() - self._cpu,
            "peak_mb": (_kilobytes("VmHWM") - self._resident) / 2**10,
        }


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
