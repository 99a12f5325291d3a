"""One child trained by two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_modules import ChildClassifier

SCRIPT = Path(__file__).with_name("train_in_ddp.py")


@pytest.mark.host
def test_two_processes_share_the_images_and_agree(digits, tmp_path):
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first["metrics"] == second["metrics"]
    assert first["weights"] == second["weights"]
    num = round(len(digits.part("train")) * 0.5)
    assert len(first["images"]) == len(second["images"]) == num // 2
    assert len({*first["images"], *second["images"]}) == num
    (checkpoint,) = tmp_path.glob("*/epochs_1.ckpt")
    loaded = ChildClassifier.load_from_checkpoint(checkpoint)
    total = sum(p.double().sum().item() for p in loaded.network.parameters())
    assert total == pytest.approx(first["weights"])
