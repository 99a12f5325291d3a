"""The example runs as a user would run it, in a folder of its own."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "lightning_child.py"


def test_example(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("lightning_child_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    with torch.random.fork_rng(devices=[]):
        example.main(1, tmp_path, None)
    assert re.search(r"\d+ of 64 images right after export", capsys.readouterr().out)
    assert (tmp_path / "exported" / "model.torchscript").is_file()
    assert len(EXAMPLE.read_text().splitlines()) <= 60
