"""Search with HpBandSter: brackets of growing epochs, children trained in worker processes.

    python examples/hpbandster_search.py --directory runs/hpbandster
    python examples/hpbandster_search.py --optimizer bohb

One bracket with up to 9 epochs takes about a minute on two cores.
"""

from __future__ import annotations

import argparse

from nas_plugins.hpbandster import run
from nas_plugins.spaces import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", default="architecture", help="or bohb, hyperband, random")
    parser.add_argument("--iterations", type=int, default=1, help="brackets")
    parser.add_argument("--max-budget", type=float, default=9, help="epochs of the longest run")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", help="where results and checkpoints are kept")
    args = parser.parse_args()

    space = load("nas_bench_201", channels=args.channels, num_cells=1, in_channels=1)
    result = run(
        space,
        optimizer=args.optimizer,
        num_iterations=args.iterations,
        num_workers=args.workers,
        max_budget=args.max_budget,
        seed=args.seed,
        directory=args.directory,
        training={"accelerator": "cpu"},
    )
    runs = [r for r in result.get_all_runs() if r.loss is not None]
    print(f"{len(runs)} runs of {len(result.data)} architectures; the best at the largest budget:")
    for r in sorted(runs, key=lambda r: (-r.budget, r.loss))[:3]:
        print(f"  {1 - r.loss:.4f} after {r.budget:g} epochs: {r.info['architecture']}")


if __name__ == "__main__":
    main()
