"""The architecture shows up in TensorBoard's own files."""

from __future__ import annotations

import pytest
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_modules import train_child
from lightning_modules.callbacks import ArchitecturePicture
from nas_plugins import Architecture, Budget


def test_tensorboard_has_drawing_and_json(space, architecture, digits, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = TensorBoardLogger(tmp_path)
    train_child(
        space, architecture, digits, budget=Budget(data_fraction=0.1), accelerator="cpu",
        callbacks=[ArchitecturePicture(space, architecture)],
        trainer_options={"logger": [logger, CSVLogger(tmp_path)]},
    )  # fmt: skip
    events = accumulator.EventAccumulator(logger.log_dir).Reload()
    (image,) = events.Images("architecture")
    assert min(image.width, image.height) > 50
    assert len(set(image.encoded_image_string)) > 100  # more than a blank page
    (text,) = events.Tensors("architecture/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert Architecture.from_json("".join(lines[1:-1])) == architecture
