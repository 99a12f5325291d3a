"""The Optuna adapter needs Optuna alone, and says so when it is missing."""

from __future__ import annotations

import subprocess
import sys

OTHERS = ["nni", "hpbandster", "Pyro4", "pytorch_lightning", "lightning"]


def _run(code: str, masked: list[str]) -> subprocess.CompletedProcess[str]:
    mask = f"import sys\nfor name in {masked}: sys.modules[name] = None\n"
    return subprocess.run([sys.executable, "-c", mask + code], capture_output=True, text=True)


def test_a_study_runs_without_the_other_hosts_and_torch() -> None:
    code = """
import optuna
from ConfigSpace import ConfigurationSpace
from nas_plugins import SearchSpace
from nas_plugins.optuna import RegularizedEvolutionSampler, suggest
space = SearchSpace(ConfigurationSpace({"op": ["a", "b"]}))
study = optuna.create_study(sampler=RegularizedEvolutionSampler(space, seed=0))
study.optimize(lambda trial: float(suggest(trial, space)["op"] == "a"), n_trials=5)
assert study.best_value == 0
assert "torch" not in sys.modules  # not masked above: scipy looks into the entry
"""
    done = _run(code, OTHERS)
    assert done.returncode == 0, done.stderr


def test_without_optuna_the_install_line_is_named() -> None:
    for module in ("nas_plugins.optuna", "lightning_modules.callbacks.optuna"):
        done = _run(f"import {module}", ["optuna"])
        assert "MissingExtraError" in done.stderr
        assert "pip install 'nas-plugins[optuna]'" in done.stderr
