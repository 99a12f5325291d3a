"""A whole HpBandSter search on one machine: name server, worker processes, master."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import os
import pickle
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Union

from hpbandster.core.nameserver import NameServer
from hpbandster.core.result import Result, json_result_logger

from nas_plugins.budget import Budget
from nas_plugins.errors import NasPluginsError, UnsupportedSpaceError
from nas_plugins.estimators.worth import Worth
from nas_plugins.hpbandster.compat import LOOPBACK, MendedMaster, mended
from nas_plugins.hpbandster.worker import ArchitectureWorker, Evaluate, epochs
from nas_plugins.space import SearchSpace, require_space

__all__ = ["OPTIMIZERS", "WorkerDiedError", "run"]

OPTIMIZERS = {
    "architecture": "nas_plugins.hpbandster.optimizer:ArchitectureOptimizer",
    "bohb": "hpbandster.optimizers.bohb:BOHB",
    "h2bo": "hpbandster.optimizers.h2bo:H2BO",
    "hyperband": "hpbandster.optimizers.hyperband:HyperBand",
    "random": "hpbandster.optimizers.randomsearch:RandomSearch",
}
"""Name to ``module:class``; the first runs our strategies, the others are HpBandSter's."""

_GRACE_S = 3.0


class WorkerDiedError(NasPluginsError, RuntimeError):
    """A worker process ended before the search could start, or all of them during it."""


def run(
    space: SearchSpace,
    *,
    optimizer: Union[str, type] = "architecture",
    num_iterations: int = 1,
    num_workers: int = 2,
    min_budget: float = 1,
    max_budget: float = 9,
    eta: float = 3,
    seed: int = 0,
    evaluate: Evaluate | None = None,
    data: Any = None,
    training: Mapping[str, Any] | None = None,
    worth: Worth | None = None,
    budget: Callable[[float], Budget] = epochs,
    directory: str | os.PathLike[str] | None = None,
    previous_result: Result | None = None,
    host: str = LOOPBACK,
    **options: Any,
) -> Result:
    """Search a space with HpBandSter on this machine, and clean up whatever happens.

    The call comes from a script's ``if __name__ == "__main__":``, since the workers are
    spawned processes that import the script.

    Args:
        space: Where architectures come from.
        optimizer: A name of :data:`OPTIMIZERS`, or a class of HpBandSter's ``Master`` family.
        num_iterations: Brackets to run (of ``schedule="full"``: architectures).
        num_workers: Processes that train.
        min_budget: Smallest budget of the brackets, in epochs unless ``budget`` says otherwise.
        max_budget: Largest budget.
        eta: Ratio of one budget to the next smaller.
        seed: Of the strategy and of every training. HpBandSter's own models draw from
            numpy's global generator besides, which is left alone: seed it to repeat them.
        evaluate: What an architecture is worth, as of :class:`ArchitectureWorker`.
        data: ``ImageDataModule`` that children are trained on; default: the digits.
        training: Further options of :func:`lightning_modules.train_child`.
        worth: Costs that the trained child's accuracy is weighed or limited by.
        budget: HpBandSter's budget as ours; default: epochs.
        directory: Where ``configs.json`` and ``results.json`` grow as the search goes, to
            be read by ``logged_results_to_HBS_result``; ``None``: nothing is kept,
            and ``info["checkpoint"]`` is ``None``.
        previous_result: Earlier result to start from.
        host: Interface of name server, master and workers. Anybody who reaches it can take
            part in the search: leave it at loopback unless the network is your own.
        options: Of the optimiser: ``strategy``, ``schedule``, ``observe``, … of
            :class:`ArchitectureOptimizer`; ``min_points_in_model``, … of ``BOHB``; of each
            of them ``ping_interval``, the seconds after which a lost worker is noticed.

    Returns:
        HpBandSter's result, earlier runs included.

    Raises:
        WorkerDiedError: No worker is left to wait for.
        FileExistsError: The directory holds the results of another run.
        UnsupportedSpaceError: Space or evaluation cannot be sent to a worker process.
        DataError: The data are no ImageDataModule.
        TypeError: ``training`` has what no training takes.
    """
    optimizer_class = _optimizer_class(optimizer)
    require_space(space)
    for name, number in (("num_workers", num_workers), ("num_iterations", num_iterations)):
        if number < 1:
            raise ValueError(f"{name} is {number}; expected at least 1")
    if evaluate is None:
        _check_training(data, training or {})
    with ExitStack() as stack:
        temporary = directory is None
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
        logger = json_result_logger(os.fspath(directory))
        stack.callback(_remove_empty, Path(directory))
        run_id = uuid.uuid4().hex
        # No working_directory here: with one, the address would be left there as a pickle.
        server = NameServer(run_id=run_id, host=host, port=0)
        stack.callback(server.shutdown)
        address, port = server.start()
        place = {"run_id": run_id, "nameserver": address, "nameserver_port": port, "host": host}
        workers = _start_workers(
            num_workers,
            {
                "space": space,
                "evaluate": evaluate,
                "data": data,
                "training": training,
                "worth": worth,
                "budget": budget,
                "seed": seed,
                **place,
            },
            stack,
        )
        master = optimizer_class(
            **_subject(optimizer_class, space, seed),
            min_budget=min_budget,
            max_budget=max_budget,
            eta=eta,
            working_directory=Path(directory).resolve(),
            result_logger=logger,
            previous_result=previous_result,
            **place,
            **{"ping_interval": 10, **options},
        )
        stack.callback(master.shutdown, shutdown_workers=True)
        threading.Thread(target=_watch, args=(workers, master), daemon=True).start()
        result = master.run(n_iterations=num_iterations, min_n_workers=num_workers)
        if temporary:
            _forget_checkpoints(result, Path(directory).resolve())
        return result


def _check_training(data: Any, training: Mapping[str, Any]) -> None:
    """Refuse at once what every worker would fail by."""
    from lightning_modules import ChildClassifier, train_child
    from lightning_modules.training import require_own

    if data is not None:
        require_own(data, {}, "run", {})
    known = {*inspect.signature(train_child).parameters}
    known |= {*inspect.signature(ChildClassifier).parameters}
    unknown = sorted(training.keys() - known)
    if unknown:
        raise TypeError(f"training has {unknown[0]!r}; expected options of train_child")


def _remove_empty(directory: Path) -> None:
    """Results in which nothing is would keep a call with mended arguments from its directory."""
    for name in ("configs.json", "results.json"):
        path = directory / name
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()


def _forget_checkpoints(result: Result, directory: Path) -> None:
    """Set to ``None`` what names a file of a directory that is about to be removed."""
    for datum in result.data.values():
        for outcome in datum.results.values():
            info = outcome and outcome["info"]
            checkpoint = info.get("checkpoint") if isinstance(info, dict) else None
            if checkpoint is not None and Path(checkpoint).is_relative_to(directory):
                info["checkpoint"] = None


def _optimizer_class(optimizer: Union[str, type]) -> Any:
    if isinstance(optimizer, type):
        return mended(optimizer)
    if optimizer not in OPTIMIZERS:
        raise ValueError(
            f"unknown optimizer {optimizer!r}; expected one of {sorted(OPTIMIZERS)} or a class"
        )
    module, _, name = OPTIMIZERS[optimizer].partition(":")
    return mended(getattr(importlib.import_module(module), name))


def _subject(optimizer: type, space: SearchSpace, seed: int) -> dict[str, Any]:
    """What is searched, as this optimiser takes it."""
    from nas_plugins.hpbandster.optimizer import ArchitectureOptimizer

    if issubclass(optimizer, ArchitectureOptimizer):
        return {"space": space, "seed": seed}
    config_space = copy.deepcopy(space.config_space)  # sampling changes its generator
    config_space.seed(seed)
    return {"configspace": config_space}


def _start_workers(
    number: int, options: dict[str, Any], stack: ExitStack
) -> Sequence[SpawnProcess]:
    # Spawned, not forked: threads run here by now, and a forked child may hang in torch.
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work, args=({**options, "id": i},), name=f"worker-{i}")
        for i in range(number)
    ]
    for worker in workers:
        try:
            worker.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UnsupportedSpaceError(
                f"space, evaluate, data or budget cannot be sent to a worker process ({error}): "
                "define networks and functions at the top level of a module, no lambdas"
            ) from error
        stack.callback(_stop, worker)
    return workers


def _work(options: dict[str, Any]) -> None:
    """Body of a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    ArchitectureWorker(**options).run()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # the parent was killed and cannot send a shutdown any more


def _stop(worker: SpawnProcess) -> None:
    worker.join(_GRACE_S)
    if worker.is_alive():
        worker.terminate()
        worker.join(_GRACE_S)
    if worker.is_alive():
        worker.kill()
        worker.join()


def _watch(workers: Sequence[SpawnProcess], master: MendedMaster) -> None:
    """Fail the search when nobody is left who could do the work.

    One worker lost on the way is not the end: HpBandSter notices it at its next ping,
    counts its job as failed, and the others go on.
    """
    alive = {worker.sentinel: worker for worker in workers}
    while alive:
        for dead in [alive[sentinel] for sentinel in wait(list(alive))]:  # type: ignore[index]
            del alive[dead.sentinel]
            dead.join()  # only then is the exit code known
            started = master.time_ref is not None
            if not started or not alive:
                master.fail(
                    WorkerDiedError(
                        f"{dead.name} ended with exit code {dead.exitcode}, "
                        + ("and no worker is left" if started else "before the search started")
                        + "; its own error output tells why"
                    )
                )
