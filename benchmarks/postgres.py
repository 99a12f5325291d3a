"""A PostgreSQL server of one's own: on a Unix socket, gone when it is done with."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["server", "why_not"]


def why_not() -> str | None:
    """What is missing for a server, ``None`` if nothing is."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed: pip install 'psycopg[binary]'"
    if _programs() is None:
        return "PostgreSQL is not installed: apt-get install postgresql"
    return None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of a fresh database, for SQLAlchemy. The server listens on no network.

    Raises:
        RuntimeError: It cannot be started.
    """
    missing = why_not()
    programs = _programs()
    if programs is None or missing is not None:
        raise RuntimeError(missing)
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # a socket's path has to be short
    data = folder / "data"
    try:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _run([programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"])
        options = f"-k {folder} -c listen_addresses="
        log = folder / "log"
        _run([programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start"])
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            _run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """Folder of ``initdb``: on the path, or where Debian puts it, the newest version first."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda path: float(path.parts[-3]), default=None)
    return None if newest is None else newest.parent


def _run(command: Sequence[str | Path]) -> None:
    as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = as_owner if os.geteuid() == 0 else []  # PostgreSQL refuses to run as root
    done = subprocess.run(
        [*prefix, *map(str, command)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would stay open in the server that pg_ctl starts
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}")
