"""Evaluations that NEAT needs, beside those that its paper reports.

XOR is solved by a network whose output is on the right side of 0.5 for each of the four
inputs. Two poles on a cart, of 1 m and 0.1 m, are balanced when cart and poles have stayed
within 2.4 m and 36 degrees for 100,000 steps of 0.02 s. Without velocities the fitness is
Gruau's, and a solution also has to balance from 200 of 625 other starts, for 1,000 steps each.

    python -m benchmarks.neat --tasks xor,poles --runs 20
    python -m benchmarks.neat --tasks poles_without_velocities --runs 3

Stanley & Miikkulainen 2002, doi:10.1162/106365602320169811, sections 4.2 to 4.4.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.report import add_json, known, merged, report, write
from nas_plugins.neat import NEAT, Genome, GenomeSpace, activate, depth, weight_matrix

Evaluate = Callable[[Sequence[Genome]], tuple[np.ndarray, np.ndarray]]
"""Genomes to the fitness of each, and whether each is a solution."""


# -- XOR --------------------------------------------------------------------------------

XOR_INPUTS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
XOR_TARGETS = np.array([0.0, 1.0, 1.0, 0.0])


def xor(genomes: Sequence[Genome]) -> tuple[np.ndarray, np.ndarray]:
    """Fitness ``(4 - sum of the errors)^2``, section 4.2."""
    outputs = np.array([_xor_outputs(genome) for genome in genomes])
    errors = np.abs(outputs - XOR_TARGETS)
    return (4.0 - errors.sum(axis=1)) ** 2, (errors < 0.5).all(axis=1)


def _xor_outputs(genome: Genome) -> np.ndarray:
    weights = weight_matrix(genome)
    values = np.zeros((4, len(weights)))
    for _ in range(depth(genome)):
        values = activate(weights, values, XOR_INPUTS)
    return values[:, 3]


# -- two poles on a cart ----------------------------------------------------------------

GRAVITY = -9.8
CART_MASS = 1.0
FORCE = 10.0
STEP_S = 0.02
POLE_MASSES = np.array([0.1, 0.01])
POLE_HALF_LENGTHS = np.array([0.5, 0.05])
POLE_FRICTION = 0.000002
TRACK_M = 2.4
FAILURE_ANGLE = np.radians(36.0)
START_ANGLE = np.radians(4.5)  # of the longer pole
SCALES = np.array([2.4, 1.5, FAILURE_ANGLE, 2.0, FAILURE_ANGLE, 2.0])  # states to about [-1, 1]
NUM_STEPS = 100_000


def derivatives(states: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """Of position, velocity, angle and angular velocity of pole 1, and those of pole 2.

    Wieland 1991, the equations that the paper's appendix B gives.

    Args:
        states: Shape ``(n, 6)``.
        forces: On the cart, in newton, shape ``(n,)``.
    """
    angles, speeds = states[:, 2::2], states[:, 3::2]
    sin, cos = np.sin(angles), np.cos(angles)
    moments = POLE_MASSES * POLE_HALF_LENGTHS
    friction = POLE_FRICTION * speeds / moments
    effective_forces = moments * speeds**2 * sin + 0.75 * POLE_MASSES * cos * (
        friction + GRAVITY * sin
    )
    effective_masses = POLE_MASSES * (1.0 - 0.75 * cos**2)
    acceleration = (forces + effective_forces.sum(axis=1)) / (
        CART_MASS + effective_masses.sum(axis=1)
    )
    angular = -0.75 * (acceleration[:, None] * cos + GRAVITY * sin + friction) / POLE_HALF_LENGTHS
    change = np.empty_like(states)
    change[:, 0], change[:, 1] = states[:, 1], acceleration
    change[:, 2::2], change[:, 3::2] = speeds, angular
    return change


def step(states: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """0.02 s later: two steps of fourth-order Runge-Kutta."""
    for _ in range(2):
        h = STEP_S / 2
        k1 = derivatives(states, forces)
        k2 = derivatives(states + h / 2 * k1, forces)
        k3 = derivatives(states + h / 2 * k2, forces)
        k4 = derivatives(states + h * k3, forces)
        states = states + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return states


@dataclass
class Run:
    """What became of carts that networks drove.

    Attributes:
        lasted: Steps until each failed.
        trace: Sum of |x|, |x'|, |angle 1|, |its speed| over the last 100 steps of each.
    """

    lasted: np.ndarray
    trace: np.ndarray


def drive(genomes: Sequence[Genome], starts: np.ndarray, *, steps: int, velocities: bool) -> Run:
    """Let each network drive a cart of its own, all at once; those that failed drop out."""
    size = max(len(genome.nodes) for genome in genomes)
    weights = np.stack([weight_matrix(genome, size) for genome in genomes])
    output = genomes[0].inputs + 1
    seen = slice(None) if velocities else slice(None, None, 2)
    states, values = starts.copy(), np.zeros((len(genomes), size))
    alive = np.arange(len(genomes))
    lasted = np.full(len(genomes), steps)
    recent = np.zeros((100, len(genomes)))
    for t in range(steps):
        values = activate(weights, values, (states / SCALES)[:, seen])
        states = step(states, FORCE * (2.0 * values[:, output] - 1.0))
        recent[t % 100] = 0.0
        recent[t % 100, alive] = np.abs(states[:, :4]).sum(axis=1)
        failed = (np.abs(states[:, 0]) > TRACK_M) | (np.abs(states[:, 2::2]) > FAILURE_ANGLE).any(
            axis=1
        )
        if failed.any():
            lasted[alive[failed]] = t
            alive, states = alive[~failed], states[~failed]
            values, weights = values[~failed], weights[~failed]
            if not alive.size:
                break
    return Run(lasted, recent.sum(axis=0))


def _start(count: int) -> np.ndarray:
    starts = np.zeros((count, 6))
    starts[:, 2] = START_ANGLE
    return starts


def poles(genomes: Sequence[Genome]) -> tuple[np.ndarray, np.ndarray]:
    """Fitness is the number of steps, section 4.3."""
    lasted = drive(genomes, _start(len(genomes)), steps=1000, velocities=True).lasted
    solved = lasted == 1000
    if solved.any():  # few get here, so that the long run is theirs alone
        able = [genomes[i] for i in np.flatnonzero(solved)]
        long = drive(able, _start(len(able)), steps=NUM_STEPS, velocities=True).lasted
        lasted[solved] = long
    return lasted.astype(float), lasted == NUM_STEPS


def poles_without_velocities(genomes: Sequence[Genome]) -> tuple[np.ndarray, np.ndarray]:
    """Gruau's fitness, section 4.4: ``0.1 t / 1000 + 0.9 · 0.75 / trace``, from 100 steps on."""
    run = drive(genomes, _start(len(genomes)), steps=1000, velocities=False)
    steady = np.where(run.lasted >= 100, 0.75 / np.maximum(run.trace, 1e-9), 0.0)
    fitness = 0.1 * run.lasted / 1000 + 0.9 * steady
    solved = np.zeros(len(genomes), dtype=bool)
    champion = int(fitness.argmax())  # the paper tests the best of a generation alone
    if run.lasted[champion] == 1000:
        solved[champion] = generalizes(genomes[champion])
    return fitness, solved


def generalizes(genome: Genome) -> bool:
    """Balances for 100,000 steps, and from 200 of 625 starts for 1,000."""
    if drive([genome], _start(1), steps=NUM_STEPS, velocities=False).lasted[0] < NUM_STEPS:
        return False
    shares = np.array([0.05, 0.25, 0.5, 0.75, 0.95]) * 2 - 1
    grid = np.meshgrid(*[shares] * 4, indexing="ij")
    starts = np.zeros((625, 6))
    ranges = (2.16, 1.35, np.radians(3.6), np.radians(8.6))
    starts[:, :4] = np.stack([g.ravel() for g in grid], axis=1) * ranges
    lasted = drive([genome] * 625, starts, steps=1000, velocities=False).lasted
    return int((lasted == 1000).sum()) >= 200


# -- the search -------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A task of the paper, its settings, and the evaluations it reports."""

    evaluate: Evaluate
    published: int
    space: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "xor": Task(xor, 4755, {"inputs": 2, "outputs": 1}),
    "poles": Task(poles, 3600, {"inputs": 6, "outputs": 1}),
    "poles_without_velocities": Task(
        poles_without_velocities,
        33184,
        {"inputs": 3, "outputs": 1, "recurrent": True},
        {"population_size": 1000, "weights": 3.0, "threshold": 4.0, "add_connection": 0.3},
    ),
}


def search(task: Task, seed: int, limit: int) -> tuple[int, Genome | None]:
    """Evaluations until the first solution, which is returned; ``None`` at the limit."""
    space = GenomeSpace(**task.space)
    strategy = NEAT(space, seed=seed, **task.options)
    while strategy.num_told < limit:
        proposals = [strategy.ask() for _ in range(strategy.population_size)]
        genomes = [space.genome(proposal) for proposal in proposals]
        fitness, solved = task.evaluate(genomes)
        if solved.any():
            first = int(solved.argmax())
            return strategy.num_told + first + 1, genomes[first]
        for proposal, score in zip(proposals, fitness, strict=True):
            strategy.tell(proposal, float(score))
    return limit, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="xor,poles", help=f"some of {','.join(TASKS)}")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--limit", type=int, default=100_000, help="evaluations of one run")
    add_json(parser)
    options = parser.parse_args()
    rows = known(options.json)
    for name in options.tasks.split(","):
        found = [search(TASKS[name], seed, options.limit) for seed in range(options.runs)]
        rows = merged(rows, [summary(name, found)], ["task"])
        write(rows, options.json)
    report(rows, options.json)


def summary(name: str, found: list[tuple[int, Genome | None]]) -> dict[str, Any]:
    """The row of a task's runs; those that ended without a solution are in no mean."""
    solved = [(count, genome) for count, genome in found if genome is not None]
    counts = [count for count, _ in solved]
    hidden = [len(g.nodes) - g.inputs - 1 - g.outputs for _, g in solved]
    connections = [sum(gene.enabled for gene in g.genes) for _, g in solved]
    return {
        "task": name,
        "runs": len(found),
        "solved": len(solved),
        "evaluations": round(statistics.fmean(counts)) if counts else None,
        "deviation": round(statistics.pstdev(counts)) if counts else None,
        "published": TASKS[name].published,
        "hidden": round(statistics.fmean(hidden), 2) if counts else None,
        "connections": round(statistics.fmean(connections), 2) if counts else None,
    }


if __name__ == "__main__":
    main()
