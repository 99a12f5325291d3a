"""Draws the documentation's pictures while it is built, so that they are never out of date."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from nas_plugins import spaces
from nas_plugins.drawing import draw, draw_history
from nas_plugins.spaces.darts import DARTS_V2
from nas_plugins.spaces.nas_bench_201 import architecture_of

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"
HISTORY = [0.42, 0.55, 0.51, None, 0.61, 0.58, 0.64, 0.63, 0.71, 0.66, 0.69, 0.74]


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs before pages are rendered."""
    cell = spaces.load("nas_bench_201", num_cells=1)
    darts = spaces.load("darts", channels=4, num_cells=6)
    branches = spaces.load("multi_branch", channels=4)
    wish = {"depth": 4, "layer2/inputs/layer0": True, "layer3/inputs/image": True}
    joint = spaces.load("joint", num_cells=1)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        draw(cell, architecture_of(CELL), here / "cell.svg")
        draw(darts, DARTS_V2, here / "darts_v2.svg", title="DARTS_V2")
        draw(branches, branches.complete(wish), here / "multi_branch.svg")
        draw(joint, joint.default(), here / "joint.svg")
        draw_history(HISTORY, here / "history.svg", ylabel="validation accuracy")
        for path in sorted(here.iterdir()):
            content = path.read_bytes()
            files.append(File.generated(config, f"pictures/{path.name}", content=content))
    return files
