"""A search that is killed and resumed ends bit for bit as the unbroken one."""

import multiprocessing
import random
import signal

import killed_search
import pytest
import torch


@pytest.fixture(scope="module")
def processes():
    """Processes that are cheap to start: forked from a server that has the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["lightning_modules.supernet", "lightning_modules.search_data", "sklearn.datasets"]
    )
    return context


@pytest.fixture(scope="module")
def unbroken(processes, tmp_path_factory):
    directory = tmp_path_factory.mktemp("unbroken")
    assert run(processes, directory) == 0
    return end_of(directory)


def run(processes, directory, **options):
    process = processes.Process(target=killed_search.search, args=(directory,), kwargs=options)
    process.start()
    process.join()
    return process.exitcode


def end_of(directory):
    checkpoint = torch.load(directory / "end.ckpt", weights_only=True)
    search = {
        name: state
        for name, state in checkpoint["callbacks"].items()
        if name.startswith("ArchitectureSearch")
    }
    assert len(search) == 1
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    return {"search": search, **{name: checkpoint[name] for name in kept}}


def assert_bit_equal(first, second, where="end"):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_bit_equal(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_bit_equal(one, other, f"{where}/{i}")
    else:
        assert first == second, where


def kill_and_resume(processes, directory, at, hook, every=1):
    kill = (at, killed_search.HOOKS[hook])
    assert run(processes, directory, kill=kill, every=every) == -signal.SIGKILL
    assert not (directory / "end.ckpt").exists()
    assert run(processes, directory, every=every) == 0
    return end_of(directory)


@pytest.mark.host
@pytest.mark.parametrize(
    ("at", "hook", "every"),
    [
        (1, 0, 1),  # in the first epoch
        (5, 1, 1),  # resumed from the last batch of an epoch, before its validation
        (8, 2, 3),  # some batches are trained again
    ],
)
def test_killed_search_ends_as_the_unbroken_one(processes, unbroken, tmp_path, at, hook, every):
    assert_bit_equal(unbroken, kill_and_resume(processes, tmp_path, at, hook, every))


@pytest.mark.host
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_steps(processes, unbroken, tmp_path, seed):
    rng = random.Random(seed)
    at = rng.randrange(1, killed_search.EPOCHS * killed_search.BATCHES)
    every = rng.randint(1, min(at, 4))
    found = kill_and_resume(processes, tmp_path, at, rng.randrange(3), every)
    assert_bit_equal(unbroken, found)
