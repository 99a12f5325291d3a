"""A cheap conditional space and evaluations of it, importable by spawned workers."""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

from nas_plugins import Architecture, Budget, SearchSpace


def toy_space() -> SearchSpace:
    """Every kind of decision, some conditional; without its network, so workers need no torch."""
    from torch import nn

    class Network(nn.Module):
        def __init__(self, choose):
            super().__init__()
            layers = {
                "wide": lambda: nn.Conv2d(4, 4, choose.value("kernel", low=1, high=7), padding=3),
                "narrow": nn.Identity,
                "plain": nn.Identity,
            }
            self.blocks = choose.repeat("depth", lambda i: choose.layer(f"op/{i}", layers), (1, 3))
            self.join = choose.inputs("join", 3, num_chosen=2)
            self.bias = choose.value("bias", [True, False])
            self.rate = choose.value("train/learning_rate", low=1e-3, high=1.0, log=True)

    return SearchSpace(SearchSpace.from_network(Network).config_space, name="toy")


def toy_score(architecture: Architecture, budget: Budget) -> float:
    """In [0, 1]; grows with the budget, and is different for nearly all architectures."""
    worth = sum(architecture.get(f"op/{i}") == "wide" for i in range(3)) / 6
    worth += 0.2 * architecture["bias"] + 0.1 * (architecture["join"] == "0+2")
    worth += 0.1 * math.exp(-(math.log10(architecture["train/learning_rate"]) ** 2))
    worth += 0.01 * architecture.get("kernel", 0)
    return worth * (1 - 0.1 / budget.epochs)


def score_with_process(architecture: Architecture, budget: Budget):
    return toy_score(architecture, budget), {"pid": os.getpid()}


def meets_three_others(architecture: Architecture, budget: Budget):
    """Nobody goes on before four processes are at work."""
    meeting = Path(os.environ["TOY_MEETING"])
    (meeting / str(os.getpid())).touch()
    while len(list(meeting.iterdir())) < 4:
        time.sleep(0.01)
    return score_with_process(architecture, budget)


def never_ends(architecture: Architecture, budget: Budget) -> float:
    (Path(os.environ["TOY_MEETING"]) / str(os.getpid())).touch()
    time.sleep(1_000)
    return 0.5


def often_fails(architecture: Architecture, budget: Budget):
    if architecture["join"] == "0+1":
        raise RuntimeError("no memory left for this child")
    if architecture["join"] == "1+2":
        return math.nan
    if not architecture["bias"]:
        sys.exit("gave up")
    return score_with_process(architecture, budget)


def always_dies(architecture: Architecture, budget: Budget) -> float:
    os._exit(7)


def dies_once(architecture: Architecture, budget: Budget) -> float:
    """The first process that finds no marker leaves one and dies."""
    try:
        os.close(os.open(os.environ["TOY_MARKER"], os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return toy_score(architecture, budget)
    os._exit(7)


def little_data(budget):
    """Few images, which are trained on in no time."""
    return Budget(epochs=round(budget), data_fraction=0.1)
