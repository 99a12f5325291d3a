"""The page of a search: what it holds, and what a browser makes of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace

from nas_plugins import Architecture, ArchitectureError, SearchSpace, spaces
from nas_plugins.drawing import Objective, Result, write_report
from nas_plugins.drawing.page import compose
from nas_plugins.drawing.vector import svg
from nas_plugins.pareto import pareto_front
from nas_plugins.testing.spaces import load_tiny

ACCURACY, LATENCY = Objective("accuracy"), Objective("latency (ms)", maximize=False)
CELL = spaces.load("nas_bench_201", channels=2, num_cells=1)


def results(count: int, seed: int = 0) -> list[Result]:
    """Two objectives and a cost; every tenth was pruned."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        architecture = CELL.sample(rng)
        convolutions = sum("conv" in str(choice) for choice in architecture.values())
        accuracy = round(0.5 + 0.05 * convolutions + rng.normal(0, 0.02), 4)
        latency = round(1 + convolutions + rng.normal(0, 0.3), 3)
        scores = None if number % 10 == 7 else (accuracy, latency)
        costs = {"parameters": float(10**convolutions)}
        made.append(Result(number, architecture, scores, costs, "" if scores else "pruned"))
    return made


def content_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    _, _, rest = text.partition('<script type="application/json" id="content">')
    return json.loads(rest.partition("</script>")[0])


# -- the picture ------------------------------------------------------------------------


@pytest.mark.parametrize("name", spaces.REGISTRY)
def test_svg_shows_each_word_and_box(name):
    space = load_tiny(name)
    page = compose(space, space.sample(np.random.default_rng(0)), "<a & b>")
    root = ElementTree.fromstring(svg(page, "<a & b>"))
    tag = "{http://www.w3.org/2000/svg}"
    assert root.attrib["aria-label"] == "<a & b>"
    assert [e.text for e in root.iter(f"{tag}text")] == [word.text for word in page.words]
    assert len(list(root.iter(f"{tag}rect"))) == len(page.boxes)
    heads = sum(curve.arrow for curve in page.curves) + sum(box.bar for box in page.boxes)
    assert len(list(root.iter(f"{tag}path"))) == len(page.curves) + heads


def test_svg_draws_bends_dashes_and_heads():
    space = SearchSpace(ConfigurationSpace({"c/1<-0": ["skip"], "c/2<-0": ["none"]}))
    drawn = svg(compose(space, space.default()), "")
    assert 'stroke-dasharray="5.6,3.1"' in drawn  # (4, 2.2) times the width 1.4
    assert "C" in drawn
    assert drawn.count('z"/>') == 1  # "none" leads nowhere


# -- the file ---------------------------------------------------------------------------


def test_every_trial_is_in_the_page_and_the_best_are_drawn(tmp_path):
    made = results(300)
    path = write_report(
        CELL, made, tmp_path / "a" / "r.html", objectives=[ACCURACY, LATENCY], num_drawn=30
    )
    content = content_of(path)
    assert [trial[0] for trial in content["trials"]] == list(range(300))
    for trial, result in zip(content["trials"], made, strict=True):
        texts = zip(content["labels"], content["choices"], trial[4], strict=True)
        choices = {label: json.loads(known[i]) for label, known, i in texts if i >= 0}
        assert Architecture(choices) == result.architecture
        assert trial[2] == (list(result.scores) if result.scores else None)
    scored = [result for result in made if result.scores]
    front = pareto_front([(r.scores[0], -r.scores[1]) for r in scored])
    ids = {r.architecture.id for r, is_best in zip(scored, front, strict=True) if is_best}
    ids.add(max(scored, key=lambda r: r.scores[0]).architecture.id)
    assert ids <= set(content["pictures"])
    assert len(content["pictures"]) <= 30
    assert path.stat().st_size < 400_000


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    text = write_report(CELL, results(20)[:5], tmp_path / "r.html", objectives=[ACCURACY, LATENCY])
    text = text.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    for foreign in ("http:", "https:", "//cdn", "@import", "<link", "src="):
        assert foreign not in text


def test_nothing_from_the_trials_is_markup(tmp_path):
    evil = "</script><img src=x onerror=alert(1)><!--"
    space = SearchSpace(ConfigurationSpace({"op": [evil, "b"], "x<-0": [evil]}), name=evil)
    result = Result(0, space.default(), (1.0,), {evil: 2}, evil)
    page = write_report(space, [result], tmp_path / "r.html", objectives=[Objective(evil)])
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text.replace(content_text(text), "")
    assert "</script" not in content_text(text)
    assert "<!--" not in content_text(text)
    assert content_of(page)["objectives"][0]["name"] == evil
    assert "<img" not in "".join(content_of(page)["pictures"].values())


def content_text(text: str) -> str:
    return text.partition('id="content">')[2].partition("</script>")[0]


def test_what_is_not_finite_is_no_score_and_no_cost(tmp_path):
    made = [
        Result(0, CELL.default(), (float("nan"),), {"parameters": float("inf")}),
        Result(1, CELL.default(), (0.5,), {"parameters": 7}),
    ]
    content = content_of(write_report(CELL, made, tmp_path / "r.html"))
    assert [trial[2:4] for trial in content["trials"]] == [[None, [None]], [[0.5], [7]]]


def test_results_that_do_not_fit_are_refused(tmp_path):
    good = CELL.default()
    with pytest.raises(ValueError, match="trial 3 has 2 scores; expected one for each"):
        write_report(CELL, [Result(3, good, (1.0, 2.0))], tmp_path / "r.html")
    with pytest.raises(ValueError, match="two results have the number 3"):
        write_report(CELL, [Result(3, good, None)] * 2, tmp_path / "r.html")
    with pytest.raises(ArchitectureError, match="lacks a choice"):
        write_report(CELL, [Result(3, Architecture({}), None)], tmp_path / "r.html")


# -- in a browser -----------------------------------------------------------------------

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

VISIT = """
<script>
"use strict";
async function visit() {
  const seen = {};
  for (const trial of trials) {
    const turned = new Promise(done => addEventListener("hashchange", done, { once: true }));
    const link = document.querySelector(`#scatter a[data-number="${trial.number}"]`);
    if (link) link.focus();
    location.hash = `#trial-${trial.number}`;
    await turned;
    const links = [...document.querySelectorAll("#scatter a.open, #curve a.open")];
    seen[trial.number] = {
      heading: document.getElementById("trial-title").textContent,
      json: document.querySelector('pre[data-kind="json"]').textContent,
      focused: document.activeElement === link,
      drawn: document.querySelector("#picture svg") !== null,
      marked: links.map(a => Number(a.dataset.number)),
      facts: [...document.querySelectorAll("#trial td")].map(cell => cell.textContent),
    };
  }
  const walk = [];
  const first = document.querySelector('#scatter a[tabindex="0"]');
  first.focus();
  for (let i = 0; i < 3; i++) {
    const key = new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true });
    document.activeElement.dispatchEvent(key);
    walk.push(document.activeElement.getAttribute("aria-label"));
  }
  const fronts = {};
  for (const name of ["latency (ms)", "parameters"]) {
    const select = document.getElementById("horizontal");
    select.value = axes.findIndex(a => a.name === name);
    select.dispatchEvent(new Event("change"));
    const rows = [...document.querySelectorAll("#front tbody tr")];
    fronts[name] = rows.map(row => Number(row.dataset.number));
  }
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  const step = document.querySelector("#curve .step").getAttribute("d");
  outcome.textContent = JSON.stringify({ seen, walk, fronts, step });
  document.body.append(outcome);
}
visit();
</script>
"""


def browse(page: Path, folder: Path, address: str = "") -> str:
    """The document after its scripts have run."""
    command = [
        *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", f"--user-data-dir={folder / 'profile'}"),
        *("--virtual-time-budget=20000", "--dump-dom", page.as_uri() + address),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@needs_chromium
@pytest.mark.host
def test_each_point_opens_its_trial(tmp_path):
    made = results(60)
    page = write_report(
        CELL, made, tmp_path / "r.html", objectives=[ACCURACY, LATENCY], num_drawn=20
    )
    visited = tmp_path / "visited.html"
    visited.write_text(page.read_text("utf-8").replace("</body>", VISIT + "</body>"), "utf-8")
    document = browse(visited, tmp_path)
    _, _, rest = document.partition('<pre id="outcome">')
    outcome = json.loads(ElementTree.fromstring(f"<p>{rest.partition('</pre>')[0]}</p>").text or "")

    drawn = content_of(page)["pictures"]
    for result in made:
        seen = outcome["seen"][str(result.number)]
        assert seen["heading"] == f"Trial {result.number} · {result.architecture.id}"
        assert seen["json"] == result.architecture.to_json()
        assert seen["drawn"] == (result.architecture.id in drawn)
        assert seen["focused"] == bool(result.scores)
        assert seen["marked"] == [result.number] * (2 if result.scores else 0)
        if result.scores:
            assert [float(fact.replace(",", "")) for fact in seen["facts"]] == [
                *result.scores,
                result.costs["parameters"],
            ]
    assert len(set(outcome["walk"])) == 3
    scored = [result for result in made if result.scores]
    both = [(r.scores[0], -r.scores[1]) for r in scored]
    with_cost = [(*gain, -r.costs["parameters"]) for gain, r in zip(both, scored, strict=True)]
    numbers = np.array([result.number for result in scored])
    for name, gains in (("latency (ms)", both), ("parameters", with_cost)):
        assert sorted(outcome["fronts"][name]) == list(numbers[pareto_front(gains)])
    bests = np.maximum.accumulate([r.scores[0] for r in scored])
    assert outcome["step"].count("V") == len(set(bests))  # a step each, and the end


@needs_chromium
@pytest.mark.host
def test_the_address_opens_a_trial_of_a_search_without_costs(tmp_path):
    made = [Result(r.number, r.architecture, r.scores and r.scores[:1]) for r in results(12)]
    document = browse(write_report(CELL, made, tmp_path / "r.html"), tmp_path, "#trial-7")
    assert f"Trial 7 · {made[7].architecture.id}" in document
    assert 'id="scatter"' not in document  # one axis: nothing to draw against
    assert document.count("<circle") == 11
