"""Two processes search as one does with the same global batch."""

import multiprocessing

import distributed_search
import pytest
import torch


def run(function, *arguments, **options):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_modules.supernet"])
    process = context.Process(target=function, args=arguments, kwargs=options)
    process.start()
    process.join(400)
    if process.is_alive():
        process.kill()
        raise AssertionError("not done within 400 s")
    return process.exitcode


@pytest.mark.host
@pytest.mark.parametrize(
    ("mutator", "options"),
    [
        ("darts", {"arch_lr": 0.1}),
        ("darts", {"arch_lr": 0.1, "order": 2}),
        ("gdas", {"arch_lr": 0.1}),
        ("proxyless", {"arch_lr": 0.1}),
        ("uniform", {}),
    ],
    ids=["darts", "darts-second-order", "gdas", "proxyless", "uniform"],
)
def test_two_processes_reach_the_alphas_of_one(tmp_path, mutator, options):
    for world_size, name in ((1, "one.pt"), (2, "two.pt")):
        assert run(distributed_search.search, tmp_path / name, world_size, mutator, options) == 0
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    for kind, tolerance in (("alphas", 1e-5), ("weights", 1e-9)):
        assert one[kind].keys() == two[kind].keys()
        for name, value in one[kind].items():
            torch.testing.assert_close(two[kind][name], value, rtol=0, atol=tolerance)
    if options:
        start = torch.cat([p - 1 / len(p) for p in one["alphas"].values()])
        assert start.abs().max() > 0.01  # they moved


@pytest.mark.host
def test_two_processes_resume_in_the_middle_of_an_epoch(tmp_path):
    """Each with its own share of the data and its own dropout."""
    case = (2, "darts", {"arch_lr": 0.1})
    options = {"dropout": 0.3, "kept": tmp_path / "kept"}
    assert run(distributed_search.search, tmp_path / "whole.pt", *case, **options) == 0
    (start,) = (tmp_path / "kept").glob("*step=3.ckpt")  # of 4 in an epoch
    options = {"dropout": 0.3, "kept": tmp_path / "others", "start": start}
    assert run(distributed_search.search, tmp_path / "resumed.pt", *case, **options) == 0
    whole, resumed = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "resumed"))
    for kind in ("alphas", "weights"):
        assert all(torch.equal(resumed[kind][n], value) for n, value in whole[kind].items())


@pytest.mark.host
def test_a_single_path_under_plain_ddp_is_refused_at_once(tmp_path):
    assert run(distributed_search.refused, tmp_path / "why") == 0
    assert "find_unused_parameters=True" in (tmp_path / "why").read_text()
