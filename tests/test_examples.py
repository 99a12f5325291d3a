"""Every example runs, with a tiny budget, and says what it found."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

TINY = {
    "custom_space.py": [],
    "hpbandster_search.py": ["--max-budget", "1", "--channels", "4"],
    "jasqnet_search.py": ["--trials", "3", "--epochs", "1"],
    "lightning_child.py": [],
    "mnasnet_search.py": ["--trials", "3", "--epochs", "1"],
    "nni_search.py": [],
    "nni_supernet.py": [],
    "optuna_search.py": [],
    "supernet_search.py": [],
}
"""Arguments that make each example short; an example that is not here fails the test."""


@pytest.mark.host
@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *TINY[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda p: p.name)
def test_fits_a_page(path):
    assert len(path.read_text().splitlines()) <= 60
