"""Pictures: nothing is missing, nothing overlaps, and the same is drawn the same."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas_plugins import Architecture, ArchitectureError, SearchSpace, spaces
from nas_plugins.drawing import draw, draw_history, figure, log_drawing
from nas_plugins.drawing.layout import Link, Size, layered
from nas_plugins.drawing.outline import natural_key, outline
from nas_plugins.drawing.page import compose
from nas_plugins.drawing.palette import INK, style_of
from nas_plugins.drawing.parts import Card, Frame
from nas_plugins.drawing.shapes import Panel, text_width
from nas_plugins.drawing.structure import picture
from nas_plugins.spaces.darts import DARTS_V2
from nas_plugins.spaces.nas_bench_201 import architecture_of


class Nested(nn.Module):
    """Choices inside candidates, a repeat, a value that belongs to nothing."""

    def __init__(self, choose):
        super().__init__()
        choose.value("width", [8, 16])
        choose.layer("stem", {"conv": lambda: _conv(choose, "stem"), "patch": nn.Identity})
        choose.layer("stage", {"blocks": lambda: self.blocks(choose), "identity": nn.Identity})
        choose.inputs("join", ["stem", "stage"], num_chosen=None)

    @staticmethod
    def blocks(choose):
        return choose.repeat(
            "blocks/depth",
            lambda i: choose.layer(
                f"blocks/{i}/op",
                {"conv": lambda: _conv(choose, f"blocks/{i}/op"), "pool": nn.Identity},
            ),
            (0, 12),
        )


def _conv(choose, path):
    choose.value(f"{path}/kernel", [3, 5])
    return choose.layer(f"{path}/activation", {"relu": nn.ReLU, "gelu": nn.GELU})


def example_spaces() -> dict[str, SearchSpace]:
    few_cells = ("amoebanet", "darts", "nasnet", "one_shot_cells", "pnas")
    small = {
        **{name: {"num_cells": 3, "channels": 4} for name in few_cells},
        "hierarchical": {"num_motifs": 3},
        "nas_bench_201": {"num_cells": 1},
        "nas_cnn": {"num_layers": 6},
    }
    found = {name: spaces.load(name, **small.get(name, {})) for name in spaces.REGISTRY}
    found["nested"] = SearchSpace.from_network(Nested, name="nested")
    found["numbers"] = SearchSpace(
        ConfigurationSpace({"rate": (0.1, 0.9), "layer1/width": (8, 64), "layer2/width": (8, 64)})
    )
    return found


SPACES = example_spaces()


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return SPACES[request.param]


def samples(space: SearchSpace, count: int = 5) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [space.default(), *(space.sample(rng) for _ in range(count))]


# -- nothing is missing -----------------------------------------------------------------


def test_outline_covers_each_decision_once(space):
    for architecture in samples(space):
        covered = [label for entry in outline(space, architecture) for label in entry.covers]
        assert sorted(covered) == sorted(architecture)


def test_every_choice_is_written_or_wired(space):
    for architecture in samples(space):
        written = " · ".join(word.text for word in compose(space, architecture).words)
        inputs = [entry for entry in outline(space, architecture) if entry.verb == "inputs"]
        wired = {label for entry in inputs for label in entry.covers}
        for label, choice in architecture.items():
            if label not in wired:
                shown = f"{choice:.4g}" if isinstance(choice, float) else str(choice)
                assert shown in written, (label, choice)


def test_nas_bench_201_cell_is_its_table():
    space = SPACES["nas_bench_201"]
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|"
    (graph,) = picture(space, architecture_of(text)).graphs
    assert [(e.source, e.target, e.operation) for e in graph.edges] == [
        ("0", "1", "nor_conv_3x3"),
        ("0", "2", "none"),
        ("1", "2", "skip_connect"),
        ("0", "3", "nor_conv_1x1"),
        ("1", "3", "avg_pool_3x3"),
        ("2", "3", "none"),
    ]
    assert [node.kind for node in graph.nodes.values()] == ["input", "node", "node", "output"]


def test_darts_v2_is_the_published_figure():
    """Liu et al. 2019, figures 4 and 5, and the genotype quark0/darts publishes."""
    normal, reduce = picture(SPACES["darts"], DARTS_V2).graphs
    assert (normal.title, reduce.title) == ("normal", "reduce  ×2")
    concatenated = [(str(node), "concat", None) for node in (2, 3, 4, 5)]
    assert {(e.source, e.target, e.operation) for e in normal.edges} == {
        ("0", "2", "sep_conv_3x3"),
        ("1", "2", "sep_conv_3x3"),
        ("0", "3", "sep_conv_3x3"),
        ("1", "3", "sep_conv_3x3"),
        ("0", "4", "skip_connect"),
        ("1", "4", "sep_conv_3x3"),
        ("0", "5", "skip_connect"),
        ("2", "5", "dil_conv_3x3"),
        *concatenated,
    }
    assert {(e.source, e.target, e.operation) for e in reduce.edges} == {
        ("0", "2", "max_pool_3x3"),
        ("1", "2", "max_pool_3x3"),
        ("1", "3", "max_pool_3x3"),
        ("2", "3", "skip_connect"),
        ("0", "4", "max_pool_3x3"),
        ("2", "4", "skip_connect"),
        ("1", "5", "max_pool_3x3"),
        ("2", "5", "skip_connect"),
        *concatenated,
    }
    captions = [node.caption for node in normal.nodes.values()]
    assert captions == ["c_{k-2}", "c_{k-1}", "2", "3", "4", "5", "c_{k}"]


def test_two_sided_nodes_are_edges_of_one_cell():
    """ENAS, Pham et al. 2018: each node sums two operations, each on an earlier tensor."""
    space = SPACES["enas_micro"]
    wish = {"normal/2/x": "1", "normal/2/x/operation": "identity", "normal/3/y": "2"}
    architecture = space.complete(wish)
    normal, reduce = picture(space, architecture).graphs
    assert (normal.title, reduce.title) == ("normal  ×6", "reduce  ×2")
    edges = [edge for edge in normal.edges if edge.target == "2"]
    assert [(e.source, e.operation) for e in edges] == [
        ("1", "identity"),
        (architecture["normal/2/y"], architecture["normal/2/y/operation"]),
    ]
    assert ("2", "3") in {(e.source, e.target) for e in normal.edges}
    read = {architecture[f"normal/{node}/{side}"] for node in "23456" for side in "xy"}
    assert {e.source for e in normal.edges if e.target == "unread"} == set("0123456") - read


@pytest.mark.parametrize("end", ["concat", "unread"])
def test_combination_is_written_on_its_node(end):
    captions = {"c": {"0": "in", end: "out"}}

    def network(choose):
        for node in ("1", "2"):
            edge = partial(
                choose.layer, f"c/{node}/x/operation", {"conv": nn.Identity, "pool": nn.Identity}
            )
            choose.inputs(f"c/{node}/x", {str(i): edge for i in range(int(node))})
            choose.layer(f"c/{node}/how", {"add": nn.Identity, "concat": nn.Identity})
        return nn.Identity()

    network.cell_captions = captions
    space = SearchSpace.from_network(network)
    (graph,) = picture(space, space.complete({"c/2/x": "1", "c/2/how": "concat"})).graphs
    assert [node.caption for node in graph.nodes.values()] == ["in", "1  add", "2  concat", "out"]
    joined = {e.source for e in graph.edges if e.target == end}
    assert joined == ({"1", "2"} if end == "concat" else {"2"})


def test_layers_stand_in_the_order_of_the_network():
    space = SPACES["chain"]
    architecture = space.complete({"depth": 6})
    (frame,) = picture(space, architecture).stack.items
    assert isinstance(frame, Frame)
    assert frame.caption == "depth: 6 blocks"
    assert [card.caption for card in frame.items] == [f"layer{i}" for i in range(6)]


def test_skips_are_edges_of_the_network_graph():
    space = SPACES["multi_branch"]
    wish = {"depth": 3, "layer1/inputs/image": False, "layer2/inputs/image": True}
    wish["layer2/inputs/layer0"] = False
    graph = picture(space, space.complete(wish)).graphs[0]
    assert {(e.source, e.target) for e in graph.edges} == {
        ("image", "layer0"),
        ("layer0", "layer1"),
        ("layer1", "layer2"),
        ("image", "layer2"),
        ("layer2", "<output>"),
    }


def test_choices_inside_a_candidate_are_on_its_card():
    space = SPACES["nested"]
    architecture = space.complete({"stem": "conv", "stem/kernel": 5, "stage": "blocks"})
    stem, stage = picture(space, architecture).stack.items
    assert stem == Card("stem", "conv", "conv", ("kernel 5", "activation relu"))
    assert isinstance(stage, Frame)
    assert stage.caption == "stage: blocks"


def test_training_hyperparameters_are_a_table():
    space = SPACES["joint"]
    tables = {table.title: dict(table.rows) for table in picture(space, space.default()).tables}
    assert tables["train"]["loss"] == str(space.default()["train/loss"])


def test_cycle_between_nodes_is_listed_instead_of_drawn():
    space = SearchSpace(ConfigurationSpace({"cell/1<-2": ["a", "b"], "cell/2<-1": ["a", "b"]}))
    drawn = picture(space, space.default())
    assert not drawn.graphs
    assert dict(drawn.tables[0].rows) == {"1<-2": "a", "2<-1": "a"}


# -- nothing overlaps -------------------------------------------------------------------


def assert_clean(page: Panel) -> None:
    solid = [box for box in page.boxes if not box.behind]
    for a, b in itertools.combinations(solid, 2):
        apart_x = a.x + a.width <= b.x + 1e-6 or b.x + b.width <= a.x + 1e-6
        apart_y = a.y + a.height <= b.y + 1e-6 or b.y + b.height <= a.y + 1e-6
        legend = a.width == b.width == 10
        assert apart_x or apart_y or legend, (a, b)
    for word in page.words:
        width = text_width(word.text, word.size, word.bold)
        left = word.x - {"left": 0, "center": width / 2, "right": width}[word.align]
        assert left >= -1e-6
        assert left + width <= page.width + 1e-6, word
        inside = [b for b in solid if b.x <= word.x <= b.x + b.width and _within(word.y, b)]
        for box in inside:
            assert left >= box.x, (word, box)
            assert left + width <= box.x + box.width, (word, box)
    for curve in page.curves:
        for point in _sampled(curve):
            for box in solid:
                deep = (
                    box.x + 0.5 < point[0] < box.x + box.width - 0.5
                    and box.y + 0.5 < point[1] < box.y + box.height - 0.5
                )
                assert not deep or not curve.arrow and box.width == 10, (curve, box)


def _within(y, box):
    return box.y <= y <= box.y + box.height


def _sampled(curve):
    """Points of the straight pieces and of the bends between them."""
    t = np.linspace(0, 1, 15)[:, None]
    for first, second in curve.pieces:
        yield from np.array(first) + t * (np.array(second) - np.array(first))
    for (_, start), (end, _) in itertools.pairwise(curve.pieces):
        start, end = np.array(start), np.array(end)
        middle = (start[curve.axis] + end[curve.axis]) / 2
        out, back = start.copy(), end.copy()
        out[curve.axis] = back[curve.axis] = middle
        s = 1 - t
        yield from s**3 * start + 3 * s * s * t * out + 3 * s * t * t * back + t**3 * end


def test_no_overlaps(space):
    for architecture in samples(space):
        assert_clean(compose(space, architecture))


@settings(max_examples=40, deadline=None)
@given(
    edges=st.sets(
        st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda e: e[0] < e[1]), max_size=20
    ),
    labelled=st.booleans(),
    tall=st.integers(10, 60),
)
def test_layout_of_any_acyclic_graph(edges, labelled, tall):
    """Boxes of a rank keep their distance; an edge passes them outside."""
    links = [
        Link(str(a), str(b), f"{a}>{b}" if labelled and (a + b) % 3 else None)
        for a, b in sorted(edges)
    ]
    sizes = {str(i): Size(20 + 7 * i, tall if i % 2 else 20) for i in range(9)}
    sizes |= {link.via: Size(50, 18) for link in links if link.via}
    layout = layered(sizes, links)
    rectangles = {
        name: (x - s.along / 2, y - s.across / 2, x + s.along / 2, y + s.across / 2)
        for name, s in sizes.items()
        for x, y in [layout.centers[name]]
    }
    for (_, a), (_, b) in itertools.combinations(rectangles.items(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for link, route in zip(links, layout.routes, strict=True):
        own = {link.source, link.via, link.target}
        for (x0, y0), (x1, _) in itertools.chain(*route):
            for name, (left, low, right, high) in rectangles.items():
                if name not in own:
                    assert x1 <= left or x0 >= right or not low < y0 < high
    for link in links:
        assert layout.centers[link.source][0] < layout.centers[link.target][0]


# -- files ------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_same_architecture_gives_same_bytes(tmp_path, suffix):
    space = SPACES["darts"]
    first = draw(space, DARTS_V2, tmp_path / "made" / f"first.{suffix}").read_bytes()
    assert first == draw(space, dict(DARTS_V2), tmp_path / f"second.{suffix}").read_bytes()
    other = space.mutate(DARTS_V2, np.random.default_rng(0))
    assert first != draw(space, other, tmp_path / f"other.{suffix}", title="").read_bytes()
    magic = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix]
    assert first.startswith(magic)


def test_threads_draw_at_once(tmp_path):
    space = SPACES["nas_bench_201"]
    architectures = samples(space)
    alone = [draw(space, a, tmp_path / f"{a.id}.svg").read_bytes() for a in architectures]
    with ThreadPoolExecutor(4) as pool:
        paths = [tmp_path / f"{i}.svg" for i in range(len(architectures))]
        together = pool.map(partial(draw, space), architectures, paths)
        assert [path.read_bytes() for path in together] == alone


def test_another_process_draws_the_same_and_needs_no_pyplot(tmp_path):
    program = (
        "import sys\n"
        "from nas_plugins import spaces\n"
        "from nas_plugins.drawing import draw\n"
        "space = spaces.load('nas_bench_201', num_cells=1)\n"
        "draw(space, space.default(), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    there = tmp_path / "there.svg"
    environment = {**os.environ, "PYTHONHASHSEED": "1234"}
    subprocess.run([sys.executable, "-c", program, str(there)], check=True, env=environment)
    space = SPACES["nas_bench_201"]
    here = draw(space, space.default(), tmp_path / "here.svg")
    assert there.read_bytes() == here.read_bytes()


def test_svg_is_well_formed_and_as_large_as_its_content(tmp_path):
    space = SPACES["joint"]
    path = draw(space, space.default(), tmp_path / "a.svg", title="<a & b> $x$")
    root = ElementTree.parse(path).getroot()
    page = compose(space, space.default(), "<a & b> $x$")
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(page.width + 36, abs=0.1)


def test_errors_name_what_came(tmp_path):
    space = SPACES["nas_bench_201"]
    with pytest.raises(ValueError, match=r"a\.jpg.*\.svg"):
        draw(space, space.default(), tmp_path / "a.jpg")
    with pytest.raises(ArchitectureError, match="cell/9<-0"):
        draw(space, {"cell/9<-0": "none"}, tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())


def test_space_without_decisions_is_drawn(tmp_path):
    space = SearchSpace(ConfigurationSpace(), name="nothing")
    assert "no decisions" in {word.text for word in compose(space, Architecture({})).words}
    draw(space, {}, tmp_path / "nothing.png")


def test_figure_is_unknown_to_pyplot():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    space = SPACES["chain"]
    drawn = figure(space, space.default())
    assert plt.get_fignums() == before
    drawn.canvas.draw()
    assert np.asarray(drawn.canvas.buffer_rgba()).min() < 100  # something is painted


def test_history_shows_the_best_so_far(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = {}
    original = Axes.step
    monkeypatch.setattr(
        Axes, "step", lambda self, x, y, **k: drawn.update(x=x, y=y) or original(self, x, y, **k)
    )
    scores = [0.5, None, 0.4, float("nan"), 0.7, 0.6]
    path = draw_history(scores, tmp_path / "history.png", ylabel="accuracy")
    assert path.stat().st_size > 1000
    assert drawn == {"x": [0, 2, 4, 5], "y": [0.5, 0.5, 0.7, 0.7]}
    draw_history(scores, tmp_path / "loss.svg", maximize=False)
    assert drawn["y"] == [0.5, 0.4, 0.4, 0.4]


# -- where users look -------------------------------------------------------------------


@pytest.mark.parametrize("lightning", [False, True])
def test_tensorboard_shows_the_drawing(tmp_path, lightning):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if lightning:
        from pytorch_lightning.loggers import TensorBoardLogger

        logger = TensorBoardLogger(tmp_path, name="", version="")
        writer = logger.experiment
    else:
        from torch.utils.tensorboard import SummaryWriter

        logger = writer = SummaryWriter(tmp_path)
    space = SPACES["nas_bench_201"]
    log_drawing(logger, space, space.default(), step=3)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("architecture")
    page = compose(space, space.default())
    assert image.step == 3
    assert (image.width, image.height) == (int(2 * page.width + 72), int(2 * page.height + 72))
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_logger_without_images_is_refused():
    space = SPACES["nas_bench_201"]
    with pytest.raises(TypeError, match="object.*SummaryWriter"):
        log_drawing(object(), space, space.default())


# -- colours ----------------------------------------------------------------------------


def _linear(color: str) -> np.ndarray:
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_text_contrast_meets_wcag():
    """W3C WCAG 2.1, criterion 1.4.3: at least 4.5 to 1 for text that tells an operation."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    operations = [f"op{i}" for i in range(20)]
    for operation in [*operations, "skip_connect"]:
        style = style_of(operation, operations)
        ink, fill = _linear(INK) @ weights, _linear(style.fill) @ weights
        assert (fill + 0.05) / (ink + 0.05) >= 4.5


# Machado, Oliveira & Fernandes 2009, severity 1.
DEUTERANOPIA = [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
PROTANOPIA = [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
TRITANOPIA = [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]


@pytest.mark.parametrize("matrix", [DEUTERANOPIA, PROTANOPIA, TRITANOPIA])
def test_operations_differ_without_full_colour_vision(matrix):
    operations = [f"op{i}" for i in range(7)]
    styles = [style_of(operation, operations) for operation in operations]
    seen = [np.cbrt(np.clip(np.array(matrix) @ _linear(style.line), 0, 1)) for style in styles]
    for (a, first), (b, second) in itertools.combinations(enumerate(seen), 2):
        distance = np.linalg.norm(first - second)
        assert distance > 0.12 or styles[a].dashes != styles[b].dashes


def test_many_operations_stay_distinct():
    operations = [f"op{i}" for i in range(30)]
    looks = {(s.line, str(s.dashes)) for s in (style_of(o, operations) for o in operations)}
    assert len(looks) == 30


def test_natural_order():
    assert sorted(["a10", "a9", "a", "b1"], key=natural_key) == ["a", "a9", "a10", "b1"]


def test_files_are_only_written_where_asked(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = SPACES["nas_bench_201"]
    figure(space, space.default())
    assert not list(tmp_path.iterdir())
