"""Every Python block of the documentation runs, in the order in which it is read.

The blocks of one file share a namespace and a temporary directory. A block after the line
``<!-- not run -->`` is not run. Where a line ends in ``# -> text``, that text is printed.
"""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("README.md"), *ROOT.glob("CONTRIBUTING.md")])

_FENCE = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run -->\s*$")
_PROMISE = re.compile(r"^print\(.*\)  # -> (?P<text>.+)$", re.MULTILINE)


def blocks(page: Path) -> list[tuple[int, str]]:
    """First line and code of each block that is to be run."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        if not _NOT_RUN.search(text, 0, match.start()):
            line = text.count("\n", 0, match.start()) + 2
            found.append((line, textwrap.dedent(match["code"])))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    runnable = blocks(page)
    if not runnable:
        pytest.skip(f"{page.name} has no Python to run")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": f"docs_{page.stem}"}
    for line, code in runnable:
        printed = io.StringIO()
        # Blank lines before the code give tracebacks the page's own line numbers.
        compiled = compile("\n" * (line - 1) + code, str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(compiled, namespace)
        lines = iter(printed.getvalue().splitlines())
        for promise in _PROMISE.finditer(code):
            assert promise["text"] in lines, f"{page.name}:{line} does not print it: {promise[0]}"


def test_blocks_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n```python\nx = 1\n```\n<!-- not run -->\n```python\nx = 2\n```\n"
        "- in a list\n\n    ```python\n    x = 3\n    ```\n```console\nls\n```\n"
    )
    assert blocks(page) == [(3, "x = 1\n"), (12, "x = 3\n")]


def test_documentation_builds(tmp_path):
    mkdocs_build = pytest.importorskip(
        "mkdocs.commands.build", reason="mkdocs is not installed"
    ).build
    config = pytest.importorskip("mkdocs.config").load_config(
        str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")
    )
    mkdocs_build(config)
    site = tmp_path / "site"
    assert "RegularizedEvolution" in (site / "api/strategies/index.html").read_text("utf-8")
    assert (site / "pictures/darts_v2.svg").read_bytes().startswith(b"<?xml")
