"""Runs real experiments: ``nnictl`` in a home of its own, bound to the loopback only."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from nas_plugins.nni import records
from nas_plugins.nni.compat import write_loopback

NNICTL = Path(sys.executable).with_name("nnictl")
HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples" / "nni"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Host:
    def __init__(self, home):
        self.home = home
        self.port = free_port()
        self.env = {
            **os.environ,
            "HOME": str(home),
            "PATH": f"{NNICTL.parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{HERE.parents[1]}:{HERE}",
            "NODE_OPTIONS": f"--require {write_loopback(home)}",
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }

    def nnictl(self, *arguments, check=True):
        done = subprocess.run(
            [NNICTL, *map(str, arguments)],
            env=self.env,
            cwd=self.home,
            timeout=240,
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        assert not check or done.returncode == 0, output
        return output

    def create(self, config):
        output = self.start("create", "--config", config)
        return re.search(r"nnictl stop (\w+)", output).group(1)

    def start(self, *arguments):
        """``nnictl`` gives its manager a few seconds to answer, which a slow machine may need."""
        for _ in range(3):
            try:
                return self.nnictl(*arguments, "--port", self.port)
            except AssertionError:
                self.port = free_port()
        return self.nnictl(*arguments, "--port", self.port)

    def directory(self, experiment):
        return self.home / "nni-experiments" / experiment

    def get(self, path):
        url = f"http://127.0.0.1:{self.port}/api/v1/nni/{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)

    def wait(self, until, seconds, what):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if until():
                    return
            except (OSError, records.ExperimentNotFoundError):
                pass
            time.sleep(0.3)
        raise AssertionError(f"not {what} within {seconds} s:\n{self.logs()}")

    def wait_done(self, seconds):
        def done():
            status = self.get("check-status")["status"]
            assert status != "ERROR", self.logs()
            return status == "DONE"

        self.wait(done, seconds, "done")

    def results(self, experiment):
        return [t for t in records.read(self.directory(experiment))[0] if t.reported is not None]

    def logs(self):
        logs = [
            *self.home.glob("nni-experiments/*/log/*"),
            *self.home.glob("nni-experiments/*/environments/*/trials/*/trial.stderr"),
        ]
        return "\n".join(f"== {log}\n{log.read_text()[-2500:]}" for log in logs if log.is_file())

    def stop(self):
        self.nnictl("stop", "--all", check=False)
