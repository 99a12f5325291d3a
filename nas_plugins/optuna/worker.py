"""Which process works on a trial, and whether it is still there."""

from __future__ import annotations

import os
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

__all__ = ["Worker"]


@dataclass(frozen=True)
class Worker:
    """A process, named so that no other process ever has the same name.

    Attributes:
        host: Name of the machine, and of the container if there is one: a process number
            means nothing outside.
        pid: Process number; numbers are used again.
        started: When the process started, in whatever form the system tells it.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Worker:
        """This process."""
        pid = os.getpid()  # asked each time: the process may be a fork
        return _worker(pid)

    def is_gone(self) -> bool:
        """Whether the process is known to have ended; unknown on other machines."""
        if self == Worker.here():
            return False
        if self.host != _host():
            return False
        started = _start_time(self.pid)
        return started != self.started and started != ""


@lru_cache(maxsize=1)
def _worker(pid: int) -> Worker:
    return Worker(_host(), pid, _start_time(pid) or "")


@lru_cache(maxsize=1)
def _host() -> str:
    name = socket.gethostname()
    with suppress(OSError):  # several machines may have one name
        name += "/" + Path("/etc/machine-id").read_text(encoding="utf-8").strip()
    with suppress(OSError):  # and containers of a machine their own processes
        name += "/" + os.readlink("/proc/self/ns/pid")
    return name


def _is_hidden(pid: int) -> bool:
    """Whether a process is there and may not be looked at, as those of others may be."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _start_time(pid: int) -> str | None:
    """Start of a process, ``None`` if there is none, empty if the system does not tell."""
    if Path("/proc/self/stat").exists():
        try:
            # Fields 3 (state) and 22 (start); the command, in parentheses, may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "" if _is_hidden(pid) else None
        return None if fields[0] in "ZX" else fields[19]  # a zombie works no more
    try:
        listed = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return listed.stdout.strip() or None
