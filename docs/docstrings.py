"""Lets mkdocstrings read docstrings that were written to be read in a terminal.

They use Google sections with a few habits of reStructuredText, which Markdown has not.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_RULE = re.compile(r"^ *=+(?: +=+)+$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Roles become code, ``::`` a colon, ruled tables are kept as they are."""
    text = re.sub(r":\w+:`~?([^`]+)`", lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    text = re.sub(r"^(\s*)Example:$", r"\1Examples:", text, flags=re.MULTILINE)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    paragraphs = [_kept(part) if _RULE.search(part) else part for part in text.split("\n\n")]
    return "\n\n".join(paragraphs)


def _kept(table: str) -> str:
    """A ruled table as text of fixed width."""
    indent = table[: len(table) - len(table.lstrip())]
    return f"{indent}```text\n{table.rstrip()}\n{indent}```"
