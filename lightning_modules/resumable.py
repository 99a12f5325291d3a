"""A data loader that goes on in the middle of an epoch, and an endless stream of its batches.

Lightning asks a loader for its ``state_dict`` when it writes a checkpoint, and gives it back
before a resumed epoch; torch's own loader has none and starts the epoch's order anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import distributed
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from lightning_modules.data import DataError

__all__ = ["BatchStream", "ResumableLoader"]


class _Sampler(DistributedSampler[Any]):
    """This process's share of an epoch's order, from ``start`` on.

    Which process it is is asked at every use: a loader is often made before the processes.
    """

    start = 0

    def __init__(self, dataset: Dataset[Any], *, shuffle: bool, seed: int) -> None:
        super().__init__(dataset, 1, 0, shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[Any]:
        self._take_place()
        return itertools.islice(super().__iter__(), self.start, None)

    def __len__(self) -> int:
        self._take_place()
        return super().__len__()

    def _take_place(self) -> None:
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        self.num_replicas, self.rank = distributed.get_world_size(), distributed.get_rank()
        self.num_samples = math.ceil(len(self.dataset) / self.num_replicas)  # type: ignore[arg-type]
        self.total_size = self.num_samples * self.num_replicas


class ResumableLoader(DataLoader[Any]):
    """Loader whose order is a function of seed and epoch, and whose place can be saved.

    In a distributed training every process loads its share: global batch ``i`` of ``n``
    processes with ``batch_size=b`` holds the same samples as batch ``i`` of one process with
    ``batch_size=n*b``. What was trained on before is skipped unloaded. With ``num_workers``,
    random numbers that the dataset itself draws in a worker are not resumed.

    Args:
        dataset: Map-style dataset.
        batch_size: Samples per batch and process.
        seed: Of the order.
        shuffle: Whether to shuffle at all.
        options: Of :class:`torch.utils.data.DataLoader`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        *,
        seed: int = 0,
        shuffle: bool = True,
        **options: Any,
    ) -> None:
        sampler = _Sampler(dataset, shuffle=shuffle, seed=seed)
        # Its own generator: making an iterator draws a number, else from the global one.
        generator = torch.Generator().manual_seed(seed)
        super().__init__(dataset, batch_size, sampler=sampler, generator=generator, **options)
        self._position = 0
        self._skip = 0

    @classmethod
    def like(cls, loader: Any, *, seed: int = 0, batch_size: int | None = None) -> ResumableLoader:
        """The same samples by the same workers, in as large batches and an order of its own.

        Args:
            loader: A :class:`~torch.utils.data.DataLoader` of a map-style dataset, or
                several of them (list, tuple or dict), whose samples are then joined. Of one
                with a ``SubsetRandomSampler`` the samples are that subset.
            seed: Of the order.
            batch_size: In place of the loader's own.

        Raises:
            DataError: Something else, or a sampler of another kind, whose samples cannot be
                known or whose order cannot be chosen.
        """
        several = list(loader.values()) if isinstance(loader, dict) else loader
        loaders = list(several) if isinstance(several, (list, tuple)) else [several]
        for one in loaders:
            if not isinstance(one, DataLoader) or isinstance(one.dataset, IterableDataset):
                raise DataError(
                    f"got {type(one).__name__}; expected a torch DataLoader of a dataset with "
                    "indices, because its samples are shuffled anew and its place is saved"
                )
        first = loaders[0]
        if batch_size is None:
            batch_size = first.batch_size
        if batch_size is None and isinstance(first.batch_sampler, BatchSampler):
            batch_size = first.batch_sampler.batch_size
        if batch_size is None:
            raise DataError(f"{type(first).__name__} has no batch size: give batch_size=")
        datasets = [_samples(one.dataset, _sampler_of(one)) for one in loaders]
        return cls(
            datasets[0] if len(datasets) == 1 else ConcatDataset(datasets),
            batch_size,
            seed=seed,
            num_workers=first.num_workers,
            collate_fn=first.collate_fn,
            pin_memory=first.pin_memory,
            drop_last=first.drop_last,
            timeout=first.timeout,
            worker_init_fn=first.worker_init_fn,
            multiprocessing_context=first.multiprocessing_context,
            persistent_workers=first.persistent_workers,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator, so that nothing is drawn before the first batch is asked for: Lightning
        # makes the iterator first and tells the sampler the epoch afterwards.
        self._position, self._skip = self._skip, 0
        self.sampler.start = self._position * (self.batch_size or 1)  # type: ignore[attr-defined]
        for batch in super().__iter__():
            self._position += 1
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iterator follows."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, int]:
        """How many batches of this epoch were given out."""
        return {"batches": self._position % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iterator starts behind those batches."""
        self._position = self._skip = state["batches"]


def _sampler_of(loader: DataLoader[Any]) -> Any:
    batches = loader.batch_sampler
    return loader.sampler if batches is None else getattr(batches, "sampler", batches)


def _samples(dataset: Dataset[Any], sampler: Any) -> Dataset[Any]:
    """What a sampler takes from a dataset, in whatever order."""
    while isinstance(sampler, DistributedSampler) and sampler.dataset is not dataset:
        sampler = getattr(sampler.dataset, "_sampler", None)  # Lightning wraps a user's own
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(dataset, list(sampler.indices))
    if isinstance(sampler, Sequence):
        return Subset(dataset, sampler)
    if isinstance(sampler, (SequentialSampler, RandomSampler, DistributedSampler)):
        return dataset
    raise DataError(
        f"the loader's sampler is a {type(sampler).__name__}; expected none, shuffle=True or a "
        "SubsetRandomSampler, because its samples are shuffled anew and their place is saved: "
        "give a loader of torch.utils.data.Subset(dataset, indices)"
    )


class BatchStream(Iterator[Any]):
    """Batches without end, epoch after epoch, from a place that can be saved.

    Args:
        loader: Its epochs are counted here.
    """

    def __init__(self, loader: ResumableLoader) -> None:
        if len(loader) == 0:
            raise DataError("the loader has no batch")
        self._loader = loader
        self._epoch = 0
        self._iterator: Iterator[Any] | None = None

    def __next__(self) -> Any:
        while True:
            if self._iterator is None:
                self._loader.set_epoch(self._epoch)
                self._iterator = iter(self._loader)
            batch = next(self._iterator, self)
            if batch is not self:
                return batch
            self._epoch += 1
            self._iterator = None

    def state_dict(self) -> dict[str, int]:
        place = self._loader.state_dict()
        ended = self._iterator is not None and place["batches"] == 0
        return {"epoch": self._epoch + ended, **place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._epoch = state["epoch"]
        self._loader.load_state_dict({"batches": state["batches"]})
        self._iterator = None
