"""What one step of a supernet's search costs, beside the plain sum and beside a lone child.

Mixtures (DARTS, path dropout): ``published`` is the paper read plainly
(:mod:`benchmarks.plain_darts`), ``naive``, ``fused`` and ``low_memory`` are the executions of
a supernet, and ``nni`` with ``--nni`` is NNI 3.0's own strategy on its own network. A step of
DARTS is one on the architecture and one on the weights; ``times`` and ``memory`` are shares of
the first row's of the same system.

Single paths (ENAS, ProxylessNAS, one-shot): a step is one on the weights, sampling included,
or where the name says so one on the architecture. ``child`` is the very same path, built and
trained alone. Both take turns in one process, ``times`` is the median ratio; memory is
measured in a process each, and ``idle_mb`` is what the supernet's weights take besides.

All is random images of 32x32, SGD with momentum and clipping, no trainer. ``peak_mb`` is the
peak of resident memory less that after the imports. ``cpu_s`` is processor time: with one
thread it is the better figure on a machine that others use too.

    python -m benchmarks.supernet_step --json FILE            # the papers' sizes, 25 minutes,
                                                              # 13 GB
    python -m benchmarks.supernet_step --quick --json FILE    # about a minute
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import plain_darts
from benchmarks.report import add_json, report
from nas_plugins import mutators, spaces
from nas_plugins.architecture import Architecture
from nas_plugins.mutators.base import Mutator
from nas_plugins.supernet import MixedInputs, Supernet

Batch = tuple[Tensor, Tensor]
Step = Callable[[], None]

MIXTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "darts_first_order": ("darts", {"order": 1}),
    "darts_second_order": ("darts", {"order": 2}),
    "path_dropout": ("one_shot", {}),
}
"""System to mutator and its options."""

SINGLE_PATHS: Mapping[str, tuple[str, str]] = {
    "enas": ("enas_micro", "enas"),
    "one_shot": ("darts", "uniform"),
    "proxyless_weight": ("proxylessnas", "proxyless"),
    "proxyless_arch": ("proxylessnas", "proxyless"),
}
"""System to space and mutator."""

VARIANTS = ("published", "naive", "fused", "low_memory")

NETWORKS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {
        "darts": {"channels": 16, "num_cells": 8, "batch": 64},
        "enas_micro": {"channels": 20, "num_cells": 8, "batch": 64},
        "proxylessnas": {"small_images": True, "num_classes": 10, "batch": 32},
    },
    "quick": {
        "darts": {"channels": 8, "num_cells": 3, "batch": 8},
        "enas_micro": {"channels": 8, "num_cells": 3, "batch": 16},
        "proxylessnas": {
            "small_images": True,
            "num_classes": 10,
            "widths": [16, 24, 32],
            "depths": [2, 2, 2],
            "strides": [1, 2, 2],
            "last": 160,
            "batch": 8,
        },
    },
}
"""Size to space to the options of its network, and the images of a batch."""


# -- in a process of its own -------------------------------------------------------------------


def resident_mb() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def random_batches(num: int, batch: int) -> list[Batch]:
    return [(torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))) for _ in range(num)]


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    images, labels = batch
    return F.cross_entropy(network(images), labels)


def optimizer_of(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)


def weight_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """The same for supernet and child."""
    optimizer.zero_grad()
    loss_of(network, batch).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()


def searching(job: Mapping[str, Any]) -> Step:
    """One step of a mixture's search."""
    method, options = MIXTURES[job["system"]]
    network = dict(job["network"])
    train, valid = random_batches(2, network.pop("batch"))
    if job["variant"] == "published":
        search = plain_darts.Search(
            plain_darts.Network(**network), second_order=options["order"] == 2
        )
        return lambda: search.step(train, valid)
    supernet = spaces.load("darts", **network).supernet(execution=job["variant"])
    mutator = mutators.create(method, supernet, **options)
    optimizer = optimizer_of(supernet)

    def step() -> None:
        mutator.architecture_step(lambda batch: loss_of(supernet, batch), train, valid, optimizer)
        mutator.open_for_weights(0.5)
        weight_step(supernet, optimizer, train)

    return step


def sampling(job: Mapping[str, Any]) -> tuple[Supernet, Mutator]:
    network = {name: value for name, value in job["network"].items() if name != "batch"}
    space, method = SINGLE_PATHS[job["system"]]
    supernet = spaces.load(space, **network).supernet()
    return supernet, mutators.create(method, supernet)


def open_path(supernet: Supernet) -> Architecture:
    """The architecture of the path that the gates are set to."""
    edges = {m.gate.label: m for m in supernet.network.modules() if isinstance(m, MixedInputs)}
    choices: dict[str, Any] = {}
    for label, gate in supernet.gates.items():
        names = [gate.choices[i] for i in gate.indices]
        if label in edges and edges[label].num_chosen is None:
            choices.update({f"{label}/{e}": e in names for e in gate.choices})
        else:
            choices[label] = "+".join(map(str, names)) if label in edges else names[0]
    return supernet.space.complete(choices)


def taking_turns(job: Mapping[str, Any]) -> dict[str, Any]:
    """Steps of a supernet and of the child that each would be alone, one after the other."""
    supernet, mutator = sampling(job)
    optimizer = optimizer_of(supernet)
    train, valid = random_batches(2, job["network"]["batch"])
    found: dict[str, Any] = {"step_s": [], "cpu_s": [], "child_s": [], "child_cpu_s": []}
    found["architectures"] = []
    for number in range(job["warmup"] + job["steps"]):
        mutator.open_for_weights()
        architecture = open_path(supernet)
        child = supernet.child(architecture)
        alone = optimizer_of(child)
        weight_step(child, alone, train)  # its momentum is there, as the supernet's is
        if job["system"] == "proxyless_arch":
            ours = timed(
                lambda: mutator.architecture_step(
                    lambda batch: loss_of(supernet, batch), train, valid, optimizer
                )
            )
        else:
            state = mutator.generator.get_state()
            ours = timed(mutator.open_for_weights)
            mutator.generator.set_state(state)
            again = supernet.set_path(architecture)  # the drawing counts, its result does not
            assert again == architecture
            step = timed(lambda: weight_step(supernet, optimizer, train))
            ours = (ours[0] + step[0], ours[1] + step[1])
        theirs = timed(lambda child=child, alone=alone: weight_step(child, alone, train))
        if number >= job["warmup"]:
            found["architectures"].append(dict(architecture))
            for key, value in zip(("step_s", "cpu_s"), ours, strict=True):
                found[key].append(value)
            for key, value in zip(("child_s", "child_cpu_s"), theirs, strict=True):
                found[key].append(value)
    return found


def stepping_alone(job: Mapping[str, Any]) -> tuple[Step, Callable[[], float]]:
    """A step of a supernet's single paths or of children, and what is idle meanwhile in MB."""
    train, valid = random_batches(2, job["network"]["batch"])
    architectures = map(Architecture, job["architectures"])
    if job["variant"] == "child":
        network = {name: value for name, value in job["network"].items() if name != "batch"}
        space = spaces.load(SINGLE_PATHS[job["system"]][0], **network)

        def child_step() -> None:
            child = space.build(next(architectures))
            weight_step(child, optimizer_of(child), train)

        return child_step, lambda: 0.0
    supernet, mutator = sampling(job)
    optimizer = optimizer_of(supernet)

    def path_step() -> None:
        if job["system"] == "proxyless_arch":
            mutator.architecture_step(lambda b: loss_of(supernet, b), train, valid, optimizer)
        else:
            supernet.set_path(next(architectures))
            weight_step(supernet, optimizer, train)

    def idle_mb() -> float:
        momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
        tensors = [*supernet.parameters(), *supernet.buffers(), *momenta]
        return sum(t.numel() * t.element_size() for t in tensors) / 2**20

    return path_step, idle_mb


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    gc.collect()
    clock, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - clock, time.process_time() - cpu


def work(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a process of its own measures."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    if job["task"] == "turns":
        return taking_turns(job)
    if job["variant"] == "nni":
        return with_nni(job)
    at_start = resident_mb()
    if job["system"] in MIXTURES:
        step, idle_mb = searching(job), float  # nothing is idle
    else:
        step, idle_mb = stepping_alone(job)
    times = [timed(step) for _ in range(job["warmup"] + job["steps"])][job["warmup"] :]
    return {
        "step_s": [clock for clock, _ in times],
        "cpu_s": [cpu for _, cpu in times],
        "peak_mb": peak_mb() - at_start,
        "idle_mb": idle_mb(),
    }


def with_nni(job: Mapping[str, Any]) -> dict[str, Any]:
    from benchmarks.nni_darts import step_times  # heavy, and an extra

    at_start = resident_mb()
    times = step_times(job["network"], job["warmup"] + job["steps"])[job["warmup"] :]
    return {
        "step_s": [clock for clock, _ in times],
        "cpu_s": [cpu for _, cpu in times],
        "peak_mb": peak_mb() - at_start,
    }


# -- from outside ------------------------------------------------------------------------------


def in_a_process(job: Mapping[str, Any]) -> dict[str, Any]:
    """Forked, so that the imports are there and nothing else is."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, (job,))


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def row_of(job: Mapping[str, Any], variant: str, **measured: Any) -> dict[str, Any]:
    settings = ", ".join(f"{name} {value}" for name, value in job["network"].items())
    return {
        "system": job["system"],
        "variant": variant,
        "network": settings,
        "threads": job["threads"],
        **measured,
    }


def measure_mixture(job: dict[str, Any], variants: Sequence[str], rounds: int) -> list[Any]:
    """Rows of one system; its variants take turns."""
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            found[variant].append(in_a_process({**job, "task": "alone", "variant": variant}))
    rows = []
    for variant, results in found.items():
        row = row_of(
            job,
            variant,
            step_s=median([s for result in results for s in result["step_s"]]),
            cpu_s=median([s for result in results for s in result["cpu_s"]]),
            peak_mb=round(statistics.median(result["peak_mb"] for result in results)),
            idle_mb=0,
        )
        first = rows[0] if rows else row
        row["times"] = round(row["step_s"] / first["step_s"], 3)
        row["memory"] = round(row["peak_mb"] / first["peak_mb"], 3)
        rows.append(row)
    return rows


def measure_single_path(job: dict[str, Any]) -> list[Any]:
    """Rows of the supernet's step and of the lone child's."""
    turns = in_a_process({**job, "task": "turns"})
    alone = {**job, "task": "alone", "warmup": 0, "steps": len(turns["architectures"])}
    alone["architectures"] = turns["architectures"]
    ours = in_a_process({**alone, "variant": "fused"})
    theirs = in_a_process({**alone, "variant": "child"})
    idle = ours["idle_mb"]
    ratios = [a / b for a, b in zip(turns["step_s"], turns["child_s"], strict=True)]
    return [
        row_of(
            {**job, "system": "child"},
            job["system"],
            step_s=median(turns["child_s"]),
            cpu_s=median(turns["child_cpu_s"]),
            peak_mb=round(theirs["peak_mb"]),
            idle_mb=0,
            times=1.0,
            memory=1.0,
        ),
        row_of(
            job,
            "fused",
            step_s=median(turns["step_s"]),
            cpu_s=median(turns["cpu_s"]),
            peak_mb=round(ours["peak_mb"]),
            idle_mb=round(idle),
            times=round(statistics.median(ratios), 3),
            memory=round((ours["peak_mb"] - idle) / theirs["peak_mb"], 3),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.supernet_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    systems = [*MIXTURES, *SINGLE_PATHS]
    parser.add_argument("--systems", help=f"({','.join(systems)}; quick: all but path_dropout)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="of mixtures (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small networks, few steps")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, help="of processes, variants in turn (2; quick: 1)")
    parser.add_argument("--steps", type=int, help="timed in a process (mixtures 1, paths 7)")
    parser.add_argument("--nni", action="store_true", help="NNI 3.0's DARTS as well")
    add_json(parser)
    arguments = parser.parse_args()
    for method, _ in [*MIXTURES.values(), *((method, 0) for _, method in SINGLE_PATHS.values())]:
        mutators.mutator_class(method)  # imported before memory is read
    rows: list[dict[str, Any]] = []
    size = "quick" if arguments.quick else "paper"
    asked = (arguments.systems or ",".join(systems)).split(",")
    if arguments.quick and not arguments.systems:  # to keep within the time
        asked.remove("path_dropout")
    for system in asked:
        if system not in systems:
            raise SystemExit(f"unknown system {system!r}; expected some of {','.join(systems)}")
        space = "darts" if system in MIXTURES else SINGLE_PATHS[system][0]
        job = {"system": system, "network": NETWORKS[size][space], "threads": arguments.threads}
        if system in MIXTURES:
            job |= {"warmup": 1, "steps": arguments.steps or 1}
            variants = arguments.variants.split(",")
            if system == "path_dropout":  # not in the plain reading
                variants = [variant for variant in variants if variant != "published"]
            if arguments.quick and system == "darts_second_order":  # to keep within the time
                variants = [variant for variant in variants if variant in ("published", "fused")]
            if arguments.nni and system == "darts_first_order":
                variants.append("nni")
            rounds = arguments.rounds or (1 if arguments.quick else 2)
            rows += measure_mixture(job, variants, rounds)
        else:
            job |= {"warmup": 1, "steps": arguments.steps or (3 if arguments.quick else 7)}
            rows += measure_single_path(job)
        if arguments.json is not None:  # what there is, should the rest be interrupted
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
