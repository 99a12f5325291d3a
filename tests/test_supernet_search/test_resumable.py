"""Loader and stream: an order of their own, and a place that can be saved."""

import pytest
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSamplerWrapper
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_modules import (
    DataError,
    DatasetDataModule,
    DigitsDataModule,
    ResumableLoader,
    SearchDataModule,
)
from lightning_modules.resumable import BatchStream


def numbers(count=10):
    return TensorDataset(torch.arange(count))


def read(batches):
    return [batch[0].tolist() for batch in batches]


def epoch(loader, number=0):
    loader.set_epoch(number)
    return read(loader)


def test_order_is_a_function_of_seed_and_epoch():
    state = torch.get_rng_state()
    loader = ResumableLoader(numbers(), 3, seed=1)
    first = epoch(loader, 0)
    assert [len(batch) for batch in first] == [3, 3, 3, 1]
    assert sorted(sum(first, [])) == list(range(10))
    assert epoch(loader, 1) != first
    assert epoch(loader, 0) == first == epoch(ResumableLoader(numbers(), 3, seed=1))
    assert epoch(ResumableLoader(numbers(), 3, seed=2)) != first
    assert epoch(ResumableLoader(numbers(), 3, shuffle=False))[0] == [0, 1, 2]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("after", [1, 3, 4])
def test_an_epoch_goes_on_behind_the_saved_place(after, num_workers):
    loader = ResumableLoader(numbers(), 3, num_workers=num_workers)
    loader.set_epoch(2)
    batches = iter(loader)
    seen = read(next(batches) for _ in range(after))
    state = loader.state_dict()
    other = ResumableLoader(numbers(), 3, num_workers=num_workers)
    other.load_state_dict(state)
    assert other.state_dict() == state
    rest = epoch(other, 2)
    if after == 4:  # a finished epoch is followed by a whole one
        assert rest == seen
    else:
        assert seen + rest == epoch(loader, 2)
    assert len(epoch(other, 2)) == 4


def test_what_was_seen_is_not_loaded_again():
    loaded = []

    class Noting(TensorDataset):
        def __getitem__(self, index):
            loaded.append(index)
            return super().__getitem__(index)

    loader = ResumableLoader(Noting(torch.arange(10)), 3)
    loader.load_state_dict({"batches": 3})
    assert len(read(loader)) == len(loaded) == 1


def test_the_epoch_may_be_told_after_the_iterator_was_made():
    loader = ResumableLoader(numbers(), 3)
    batches = iter(loader)
    loader.set_epoch(4)
    assert read(batches) == epoch(loader, 4)


def test_a_stream_never_ends_and_resumes_anywhere():
    stream = BatchStream(ResumableLoader(numbers(), 4, seed=3))
    places, seen = [], []
    for _ in range(8):
        places.append(stream.state_dict())
        seen.extend(read([next(stream)]))
    assert places[3] == {"epoch": 1, "batches": 0}
    loader = ResumableLoader(numbers(), 4, seed=3)
    assert seen == epoch(loader, 0) + epoch(loader, 1) + epoch(loader, 2)[:2]
    for start, place in enumerate(places):
        other = BatchStream(ResumableLoader(numbers(), 4, seed=3))
        other.load_state_dict(place)
        assert other.state_dict() == place
        assert read(next(other) for _ in range(8 - start)) == seen[start:]


def test_an_empty_stream_is_refused():
    with pytest.raises(DataError, match="has no batch"):
        BatchStream(ResumableLoader(numbers(0), 4, shuffle=False))


def test_like_takes_over_what_a_loader_does():
    loader = DataLoader(numbers(), 4, collate_fn=lambda batch: len(batch))
    alike = ResumableLoader.like({"a": loader, "b": loader}, batch_size=8)
    assert list(alike) == [8, 8, 4]
    by_sampler = DataLoader(
        numbers(), batch_sampler=torch.utils.data.BatchSampler(range(10), 5, False)
    )
    assert len(ResumableLoader.like(by_sampler)) == 2
    with pytest.raises(DataError, match="no batch size"):
        ResumableLoader.like(DataLoader(numbers(), batch_size=None))
    with pytest.raises(DataError, match="expected a torch DataLoader"):
        ResumableLoader.like([[1, 2]])


def test_search_data_are_two_disjoint_stratified_parts():
    data = DigitsDataModule(32)
    search = SearchDataModule(data, architecture_fraction=0.4, seed=5)
    parts = {name: search.part(name) for name in ("train", "architecture", "val", "test")}
    assert set(parts["train"].indices).isdisjoint(parts["architecture"].indices)
    whole = len(data.part("train"))
    assert len(parts["train"]) + len(parts["architecture"]) == whole
    assert len(parts["architecture"]) == round(0.4 * whole)
    assert parts["val"] is data.part("val")
    again = SearchDataModule(DigitsDataModule(32), architecture_fraction=0.4, seed=5)
    assert again.part("train").indices == parts["train"].indices
    other = SearchDataModule(data, architecture_fraction=0.4, seed=6)
    assert other.part("train").indices != parts["train"].indices
    labels = torch.cat([labels for _, labels in search.architecture_dataloader()])
    counts = torch.bincount(labels)
    assert counts.max() - counts.min() <= 3
    assert isinstance(search.train_dataloader(), ResumableLoader)
    with pytest.raises(ValueError, match="architecture_fraction is 1"):
        SearchDataModule(data, architecture_fraction=1)


def test_like_takes_the_samples_that_a_loader_takes():
    """The usual split of DARTS: one dataset, two samplers."""
    mine = list(range(5, 10))
    loader = DataLoader(numbers(), 2, sampler=SubsetRandomSampler(mine), drop_last=True)
    like = ResumableLoader.like(loader, seed=3)
    assert len(like) == len(loader) == 2
    seen = {number for at in range(9) for number in sum(epoch(like, at), [])}
    assert sorted(seen) == mine
    batches = BatchSampler(SubsetRandomSampler(mine), 2, drop_last=False)
    assert (
        sum(map(len, epoch(ResumableLoader.like(DataLoader(numbers(), batch_sampler=batches)))))
        == 5
    )
    wrapped = UnrepeatedDistributedSamplerWrapper(SubsetRandomSampler(mine), num_replicas=2, rank=0)
    both = ResumableLoader.like(DataLoader(numbers(), 2, sampler=wrapped))
    assert sorted(sum(epoch(both), [])) == mine
    plain = DistributedSampler(numbers(), 2, 0)
    assert len(ResumableLoader.like(DataLoader(plain.dataset, 2, sampler=plain))) == 5


def test_a_sampler_that_cannot_be_followed_is_named():
    loader = DataLoader(numbers(), 2, sampler=WeightedRandomSampler([1.0] * 10, 5))
    with pytest.raises(DataError, match=r"sampler is a WeightedRandomSampler.*Subset\("):
        ResumableLoader.like(loader)


def test_no_batch_of_one_image_and_the_same_share_for_both_parts():
    images = DigitsDataModule(16, data_fraction=0.06)
    data = SearchDataModule(images)
    data.setup()
    for loader in (data.train_dataloader(), data.architecture_dataloader()):
        assert [len(labels) for _, labels in loader] in ([16, 16], [16])
    plain = TensorDataset(torch.rand(34, 1, 8, 8), torch.arange(34) % 2)
    halves = SearchDataModule(DatasetDataModule(plain, plain, batch_size=16))
    for loader in (halves.train_dataloader(), halves.architecture_dataloader()):
        assert [len(labels) for _, labels in ResumableLoader.like(loader)] == [16]
