"""Pictures of architectures as artifacts, which optuna-dashboard shows beside the trial."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.artifacts import upload_artifact
from optuna.study import Study
from optuna.trial import Trial

from nas_plugins.architecture import Choice
from nas_plugins.drawing import draw
from nas_plugins.space import SearchSpace

__all__ = ["upload_drawing"]

_MIMETYPES = {"png": "image/png", "svg": "image/svg+xml"}


def upload_drawing(
    trial: Trial | Study,
    space: SearchSpace,
    architecture: Mapping[str, Choice],
    artifact_store: Any,
    *,
    kind: str = "svg",
    title: str | None = None,
) -> str:
    """Draw an architecture and attach the picture to a trial, or to the whole study.

    Args:
        trial: A running trial, or a study, say for its best architecture: Optuna lets
            nothing be added to a trial that has finished.
        space: Where the architecture is from.
        architecture: What is drawn.
        artifact_store: Where the file goes, such as
            :class:`optuna.artifacts.FileSystemArtifactStore`.
        kind: ``svg`` or ``png``.
        title: As in :func:`nas_plugins.drawing.draw`.

    Returns:
        The artifact's id.

    Raises:
        ArchitectureError: Not an architecture of the space.
        ValueError: Another kind of file.

    Example:
        >>> import optuna, tempfile
        >>> from nas_plugins import spaces
        >>> from nas_plugins.optuna import suggest
        >>> space = spaces.load("nas_bench_201", num_cells=1)
        >>> store = optuna.artifacts.FileSystemArtifactStore(tempfile.mkdtemp())
        >>> study = optuna.create_study()
        >>> trial = study.ask()
        >>> artifact = upload_drawing(trial, space, suggest(trial, space), store)
        >>> [meta.artifact_id == artifact for meta in optuna.artifacts.get_all_artifact_meta(trial)]
        [True]
    """
    if kind not in _MIMETYPES:
        raise ValueError(f"kind is {kind!r}; expected one of {sorted(_MIMETYPES)}")
    checked = space.validate(architecture)
    with tempfile.TemporaryDirectory() as folder:
        path = draw(space, checked, Path(folder) / f"{checked.id}.{kind}", title=title)
        return upload_artifact(
            artifact_store=artifact_store,
            file_path=str(path),
            study_or_trial=trial,
            mimetype=_MIMETYPES[kind],
        )
