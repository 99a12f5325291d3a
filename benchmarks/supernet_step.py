"""What one step of a supernet's search costs, beside the plain sum and beside a lone child.

Mixtures (DARTS, path dropout): ``published`` is the paper read plainly
(:mod:`benchmarks.plain_darts`), ``naive``, ``fused`` and ``low_memory`` are the executions of
a supernet, and ``nni`` with ``--nni`` is NNI 3.0's own strategy on its own network. A step of
DARTS is one on the architecture and one on the weights; ``times`` and ``memory`` are shares of
the first row's of the same system.

Single paths (ENAS, ProxylessNAS, one-shot): a step is one on the weights, sampling included,
or where the name says so one on the architecture. ``child`` is the very same path, built and
trained alone; both take turns, and ``times`` and ``memory`` are median ratios.

All is random images of 32x32, SGD with momentum and clipping, no trainer; each system in a
process of its own. ``peak_mb`` is the peak of resident memory during a step over what was
resident before it, so that weights and compiled kernels do not count; ``idle_mb`` is what the
supernet's weights and momenta take. ``cpu_s`` is processor time: with one thread it is the
better figure on a machine that others use too.

    python -m benchmarks.supernet_step --json FILE            # the papers' sizes, 10 GB
    python -m benchmarks.supernet_step --quick --json FILE    # within 45 seconds
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import plain_darts
from benchmarks.report import add_json, report
from benchmarks.stopwatch import Figures, Stopwatch
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
            "widths": [16, 24],
            "depths": [2, 2],
            "strides": [1, 2],
            "last": 160,
            "batch": 8,
        },
    },
}
"""Size to space to the options of its network, and the images of a batch."""


# -- in a process for each system --------------------------------------------------------------


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
    nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 5.0)
    optimizer.step()


def searching(job: Mapping[str, Any], variant: str) -> Step:
    """One step of a mixture's search."""
    method, options = MIXTURES[job["system"]]
    network = dict(job["network"])
    train, valid = random_batches(2, network.pop("batch"))
    if variant == "published":
        search = plain_darts.Search(
            plain_darts.Network(**network), second_order=options["order"] == 2
        )
        return lambda: search.step(train, valid)
    supernet = spaces.load("darts", **network).supernet(execution=variant)
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


def timed(step: Callable[[], object]) -> Figures:
    stopwatch = Stopwatch()
    step()
    return stopwatch.read()


def mixtures(job: Mapping[str, Any]) -> dict[str, list[Figures]]:
    """Variant to its steps; in each round every variant has its turn."""
    found: dict[str, list[Figures]] = {variant: [] for variant in job["variants"]}
    for _ in range(job["rounds"]):
        for variant in job["variants"]:
            step = searching(job, variant)
            step()  # makes its kernels and momenta
            found[variant] += [timed(step) for _ in range(job["steps"])]
    return found


def with_nni(job: Mapping[str, Any]) -> dict[str, list[Figures]]:
    from benchmarks.nni_darts import timed_steps  # heavy, and an extra

    return {"nni": timed_steps(job["network"], 1 + job["steps"])[1:]}


def single_paths(job: Mapping[str, Any]) -> dict[str, list[Figures]]:
    """Steps of a supernet and of the child that each would be alone, in turn."""
    supernet, mutator = sampling(job)
    optimizer = optimizer_of(supernet)
    train, valid = random_batches(2, job["network"]["batch"])
    found: dict[str, list[Figures]] = {"child": [], "fused": []}
    for number in range(1 + job["steps"]):
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
            drawing, ours = ours, timed(lambda: weight_step(supernet, optimizer, train))
            for key in ("step_s", "cpu_s"):
                ours[key] += drawing[key]
        theirs = timed(lambda child=child, alone=alone: weight_step(child, alone, train))
        if number:  # the first makes kernels
            found["child"].append(theirs)
            found["fused"].append(ours)
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    tensors = [*supernet.parameters(), *supernet.buffers(), *momenta]
    idle_mb = sum(t.numel() * t.element_size() for t in tensors) / 2**20
    for step in found["fused"]:
        step["idle_mb"] = idle_mb
    return found


def work(job: Mapping[str, Any]) -> dict[str, list[Figures]]:
    """Variant to its steps, as a process of its own measures them."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    if job["variants"] == ["nni"]:
        return with_nni(job)
    return mixtures(job) if job["system"] in MIXTURES else single_paths(job)


# -- from outside ------------------------------------------------------------------------------


def measure(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of one system. Its process is forked: the imports are there and nothing else is."""
    ours = [variant for variant in job["variants"] if variant != "nni"]
    theirs = [variant for variant in job["variants"] if variant == "nni"]
    found: dict[str, list[Figures]] = {}
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for variants in filter(None, (ours, theirs)):
            found |= pool.apply(work, ({**job, "variants": variants},))
    first = next(iter(found.values()))
    return [
        {
            "system": job["system"] if variant != "child" else "child",
            "variant": variant if variant != "child" else job["system"],
            "step_s": median([step["step_s"] for step in steps]),
            "cpu_s": median([step["cpu_s"] for step in steps]),
            "peak_mb": round(max(step["peak_mb"] for step in steps)),
            "idle_mb": round(steps[0].get("idle_mb", 0)),
            "times": share(steps, first, "step_s"),
            "memory": share(steps, first, "peak_mb"),
            "threads": job["threads"],
            "network": ", ".join(f"{name} {value}" for name, value in job["network"].items()),
        }
        for variant, steps in found.items()
    ]


def share(steps: Sequence[Figures], of: Sequence[Figures], key: str) -> float:
    """Median ratio of steps that took turns."""
    return round(statistics.median(a[key] / b[key] for a, b in zip(steps, of, strict=False)), 3)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


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
    for system in asked:
        space = "darts" if system in MIXTURES else SINGLE_PATHS[system][0]
        job = {"system": system, "network": NETWORKS[size][space], "threads": arguments.threads}
        variants = arguments.variants.split(",")
        if system == "path_dropout":  # not in the plain reading
            variants = [variant for variant in variants if variant != "published"]
        if arguments.quick and system == "darts_second_order":  # to keep within 45 s
            variants = [variant for variant in variants if variant in ("published", "fused")]
        if arguments.nni and system == "darts_first_order":
            variants.append("nni")
        steps = arguments.steps or (1 if system in MIXTURES else 3 if arguments.quick else 7)
        rounds = arguments.rounds or (1 if arguments.quick else 2)
        rows += measure({**job, "variants": variants, "steps": steps, "rounds": rounds})
        if arguments.json is not None:  # what there is, should the rest be interrupted
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
