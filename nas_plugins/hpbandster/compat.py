"""What HpBandSter 0.7.4 needs to run beside numpy 2, ConfigSpace 1 and Pyro4 4.82.

No installed file is touched. :func:`mended` puts :class:`MendedMaster` before an optimiser:

============================================  ===========================================
what breaks                                   cure; it can go when
============================================  ===========================================
numpy scalars (choices of categoricals and    :func:`plain` before the wire and before the
every budget) do not pass serpent: the job    JSON log; when HpBandSter or serpent takes
is lost and the master waits for ever         numpy 2 scalars
a loss of ``None`` or NaN raises on the       such a run counts as failed; never, the check
callback thread: waits for ever               is ours to make
any error on the callback thread is lost:     ``run`` raises it; when upstream does
waits for ever
a warm start runs inside the constructor,     done again afterwards, in order of completion;
before the cures, in order of ids, and        when the above are gone
fails on failed runs
no name server: threads that never end        asked for first; when upstream does
workers that die before the run: waits for    ``wait_for_workers`` looks for a failure; when
ever                                          upstream does
``shutdown`` stops at the first dead worker   it goes on; when upstream does
H2BO alone: ``numpy.float``, ragged           a stand-in for numpy in its three modules, and
``isfinite``, ``vartypes`` never set, a       two attributes; when it is written for numpy
model of three points                         1.24
BOHB alone: refuses ordered choices           :mod:`~nas_plugins.hpbandster.ordinals`: it is
                                              given their places; when it takes them
``RandomSearch`` names no budgets in its      filled in; when upstream does
result
============================================  ===========================================

Not mended: ``LCNet``, whose model needs the package *robo*, which is unmaintained and not on
offer for current Pythons; ``Result.get_fANOVA_data`` on conditional spaces, which takes
every decision to be active.
"""

from __future__ import annotations

import functools
import importlib
import math
import numbers
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import Pyro4
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from hpbandster.core.base_iteration import WarmStartIteration
from hpbandster.core.dispatcher import Job
from hpbandster.core.master import Master
from hpbandster.core.result import Result

from nas_plugins.errors import NasPluginsError, UnsupportedSpaceError
from nas_plugins.hpbandster.ordinals import Choices, GeneratorOfPlaces, with_places

__all__ = ["MendedMaster", "NameServerError", "mended", "plain"]

LOOPBACK = "127.0.0.1"

_H2BO_TYPES = (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)


class NameServerError(NasPluginsError, ConnectionError):
    """No name server answers where one was said to be."""


def plain(value: Any) -> Any:
    """The same value out of Python's own types, which serpent and JSON both take.

    numpy scalars and arrays, and tensors, become numbers and lists; paths become strings.

    Raises:
        TypeError: Something else, which would not survive the wire.
    """
    if value is None:
        return None
    for kind in (bool, int, float, str):
        if isinstance(value, kind):  # numpy's float64 and str_ pass, and are converted
            return kind(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Path):
        return str(value)
    listed = value.tolist() if hasattr(value, "tolist") else value
    if type(listed) is type(value):
        raise TypeError(
            f"{value!r} is a {type(value).__name__}; expected strings, numbers, booleans, None, "
            "and lists or dicts of them, since it is sent between processes"
        )
    return plain(listed)


class MendedMaster(Master):
    """Base that goes before another class of HpBandSter's ``Master`` family; see the module.

    Args:
        args, options: The optimiser's own.
        previous_result: Earlier run, replayed in the order in which its runs finished.
        working_directory: Where workers may keep files.
        nameserver, nameserver_port: Address of the name server.
        host: Interface the master listens on.

    Raises:
        NameServerError: No name server there.
    """

    config_generator: Any

    def __init__(
        self,
        *args: Any,
        previous_result: Result | None = None,
        working_directory: str | os.PathLike[str] = ".",
        nameserver: str = LOOPBACK,
        nameserver_port: int | None = None,
        host: str = LOOPBACK,
        **options: Any,
    ) -> None:
        _require_name_server(nameserver, nameserver_port)
        self._failure: BaseException | None = None
        choices: Choices = {}
        if _has_no_ordinals(type(self)):
            if args:  # each of these optimisers takes the space first
                placed, choices = with_places(args[0])
                args = (placed, *args[1:])
            elif "configspace" in options:
                options["configspace"], choices = with_places(options["configspace"])
        super().__init__(
            *args,
            working_directory=os.fspath(working_directory),
            nameserver=nameserver,
            nameserver_port=nameserver_port,
            host=host,
            **options,
        )
        self._wait_for_dispatcher()
        try:
            _mend_h2bo(self.config_generator)
            if choices:
                self.config_generator = GeneratorOfPlaces(self.config_generator, choices)
            self.config_generator = _PlainGenerator(self.config_generator)
            if "max_budget" in self.config:
                self.config.setdefault("budgets", [self.config["max_budget"]])
                self.config.setdefault("max_SH_iter", 1)
            self.config.update({name: _listed(value) for name, value in self.config.items()})
            if previous_result is not None and previous_result.get_all_runs():
                self.warmstart_iteration = [_replayed(previous_result, self.config_generator)]
        except BaseException:
            self.shutdown()
            raise

    def fail(self, error: BaseException) -> None:
        """Make :meth:`run`, waiting in another thread, raise this error."""
        with self.thread_cond:
            self._failure = self._failure or error
            self.thread_cond.notify_all()

    def run(
        self,
        n_iterations: int = 1,
        min_n_workers: int = 1,
        iteration_kwargs: Mapping[str, Any] | None = None,
    ) -> Result:
        """As upstream; an error of the callback thread is raised here."""
        try:
            return super().run(n_iterations, min_n_workers, dict(iteration_kwargs or {}))
        except BaseException:
            # Upstream holds the lock while it schedules; shutdown would wait for it.
            with suppress(RuntimeError):
                self.thread_cond.release()
            raise

    def wait_for_workers(self, min_n_workers: int = 1) -> None:
        """Return when that many workers are known; raise when they cannot come."""
        with self.thread_cond:
            while self.dispatcher.number_of_workers() < min_n_workers:
                self._raise_failure()
                self.thread_cond.wait(0.1)
                self.dispatcher.trigger_discover_worker()

    def job_callback(self, job: Job) -> None:
        """On the callback thread: book a finished run."""
        try:
            _settle(job)
            super().job_callback(job)
        except BaseException as error:
            self.fail(error)

    def shutdown(self, shutdown_workers: bool = False) -> None:
        """End the master's threads, and the workers if asked; calling it twice is harmless."""
        if not self.dispatcher_thread.is_alive():
            return
        if shutdown_workers:
            for worker in list(self.dispatcher.worker_pool.values()):
                with suppress(Pyro4.errors.CommunicationError):
                    worker.shutdown()
        super().shutdown(False)

    def _queue_wait(self) -> None:
        # As upstream, at each turn of the scheduling loop; here a failure comes to light.
        self._raise_failure()
        if self.num_running_jobs >= self.job_queue_sizes[1]:
            while self.num_running_jobs > self.job_queue_sizes[0]:
                self.thread_cond.wait()
                self._raise_failure()

    def _submit_job(self, config_id: tuple[int, ...], config: Any, budget: Any) -> None:
        super()._submit_job(config_id, plain(config), plain(budget))

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wait_for_dispatcher(self) -> None:
        # Its thread sets pyro_daemon, without which shutdown would raise.
        while self.dispatcher_thread.is_alive() and not hasattr(self.dispatcher, "pyro_daemon"):
            time.sleep(0.01)


@functools.cache
def mended(optimizer: type) -> type:
    """An optimiser class of HpBandSter that runs beside today's numpy.

    Args:
        optimizer: ``BOHB``, ``HyperBand``, ``RandomSearch``, ``H2BO``, or another ``Master``.

    Example:
        >>> from hpbandster.optimizers import BOHB
        >>> mended(BOHB).__name__
        'BOHB'
    """
    if issubclass(optimizer, MendedMaster):
        return optimizer
    return type(optimizer.__name__, (MendedMaster, optimizer), {"__doc__": optimizer.__doc__})


def _has_no_ordinals(optimizer: type) -> bool:
    """Whether its model refuses ordered choices, as BOHB's does."""
    return any(base.__module__ == "hpbandster.optimizers.bohb" for base in optimizer.__mro__)


class _PlainGenerator:
    """A configuration generator whose configurations are made of plain values."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def get_config(self, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
        config, info = self._generator.get_config(plain(budget))
        return plain(dict(config)), plain(info)


class _WarmStart(WarmStartIteration):
    """Earlier runs, failed ones included."""

    def register_result(self, job: Job, skip_sanity_checks: bool = False) -> None:
        _settle(job)
        super().register_result(job, skip_sanity_checks)


class _Collector:
    """Stands in for a generator, to learn which jobs a warm start would tell it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    def new_result(self, job: Job, update_model: bool = True) -> None:
        self.jobs.append(job)


def _replayed(previous: Result, generator: Any) -> WarmStartIteration:
    """Tell a generator the runs of an earlier result in the order in which they finished."""
    collector = _Collector()
    iteration = _WarmStart(previous, collector)
    jobs = sorted(collector.jobs, key=lambda job: job.timestamps["finished"])
    # A model is fitted once per budget, when its last run has been told.
    last = {job.kwargs["budget"]: job for job in jobs}
    for job in jobs:
        generator.new_result(job, update_model=job is last[job.kwargs["budget"]])
    return iteration


def _settle(job: Job) -> None:
    """Put a run without a finite loss into the one form of failure HpBandSter knows."""
    if job.result is None:
        return
    loss = job.result.get("loss")
    # serpent delivers NaN as a dict, so that even the type cannot be relied upon.
    if isinstance(loss, numbers.Real) and math.isfinite(loss):
        return
    job.result = None
    job.exception = (
        job.exception
        or getattr(job, "error_logs", None)
        or f"loss of job {job.id} is {loss!r}; expected a finite number"
    )


def _listed(value: Any) -> Any:
    return plain(value) if isinstance(value, (np.ndarray, np.generic)) else value


def _require_name_server(host: str, port: int | None) -> None:
    try:
        Pyro4.locateNS(host=host, port=port)._pyroRelease()
    except Pyro4.errors.PyroError as error:
        raise NameServerError(
            f"no name server answers at {host}:{port} ({error}); start one with "
            "hpbandster.core.nameserver.NameServer, and pass nameserver= and nameserver_port="
        ) from error


class _NumpyOfH2BO:
    """numpy as H2BO's modules expect it; everything else is numpy's own."""

    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def isfinite(values: Any) -> Any:
        # H2BO keeps a list of losses per configuration, of unequal lengths once one of
        # them is run again, which numpy 1.24 and later do not make an array of.
        if isinstance(values, list):
            values = np.concatenate(values) if values else []
        return np.isfinite(values)


def _mend_h2bo(generator: Any) -> None:
    h2bo = sys.modules.get("hpbandster.optimizers.config_generators.h2bo")
    if h2bo is None or not isinstance(generator, h2bo.H2BO):
        return
    kde = [importlib.import_module(f"hpbandster.optimizers.kde.{n}") for n in ("kernels", "mvkde")]
    for label, hyperparameter in generator.configspace.items():
        if not isinstance(hyperparameter, _H2BO_TYPES):
            raise UnsupportedSpaceError(
                f"H2BO has no model for {label!r}, a {type(hyperparameter).__name__}; expected "
                f"one of {[kind.__name__ for kind in _H2BO_TYPES]}: use BOHB"
            )
    for module in (h2bo, *kde):
        vars(module)["np"] = _NumpyOfH2BO()
    # It takes three configurations for good, and fails when none is left for bad.
    generator.min_points_in_model = max(generator.min_points_in_model, 4)
    # As in HpBandSter's BOHB: the number of values, 0 for a number.
    generator.vartypes = [
        len(getattr(hp, "choices", getattr(hp, "sequence", ())))
        for hp in generator.configspace.values()
    ]
