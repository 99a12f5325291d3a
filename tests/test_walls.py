"""Who may import whom: read off the sources, and tried in processes that lack the others."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CORE = {"nas_plugins", "numpy", "ConfigSpace", "torch"}
HOSTS = ("nas_plugins.optuna", "nas_plugins.nni", "nas_plugins.hpbandster", "lightning_modules")
LIGHTNING = {"nas_plugins", "lightning_modules", "numpy", "torch", "pytorch_lightning"}

ALLOWED = {
    # The longest entry that is a path's beginning counts. What is not listed is forbidden;
    # "nas_plugins" stands for its core, a host's package has to be named.
    "nas_plugins/": CORE,
    "nas_plugins/__main__.py": {"nas_plugins"},
    "nas_plugins/bayesian/": CORE | {"botorch", "gpytorch", "matplotlib"},
    "nas_plugins/cli/": CORE | {*HOSTS, "optuna", "rich"},  # the one room that knows all
    "nas_plugins/drawing/": CORE | {"matplotlib"},
    "nas_plugins/estimators/curve_families.py": {"numpy", "scipy"},
    "nas_plugins/estimators/fidelity.py": {"numpy", "scipy"},
    "nas_plugins/estimators/learning_curve.py": CORE - {"torch"} | {"emcee", "scipy"},
    "nas_plugins/hpbandster/": CORE
    | {"nas_plugins.hpbandster", "lightning_modules", "hpbandster", "Pyro4", "serpent"},
    "nas_plugins/neat/": CORE - {"torch"},
    "nas_plugins/nni/": CORE | {"nas_plugins.nni", "lightning_modules", "nni", "yaml"},
    "nas_plugins/optuna/": CORE - {"torch"} | {"nas_plugins.optuna", "optuna"},
    "nas_plugins/strategies/": CORE - {"torch"},
    "nas_plugins/strategies/posterior.py": {"numpy", "scipy"},
    "nas_plugins/testing/": CORE | {"pytest", "hypothesis"},
    "lightning_modules/": LIGHTNING | {"PIL", "sklearn", "torchmetrics", "torchvision"},
    "lightning_modules/callbacks/": LIGHTNING | {"PIL", "matplotlib"},
    "lightning_modules/callbacks/hpbandster.py": LIGHTNING
    | {"hpbandster", "nas_plugins.hpbandster"},
    "lightning_modules/callbacks/nni.py": LIGHTNING | {"nni", "nas_plugins.nni"},
    "lightning_modules/callbacks/optuna.py": LIGHTNING | {"optuna", "nas_plugins.optuna"},
}
"""Beginning of a path to what the sources below it may import, anywhere in the file."""


def sources() -> list[str]:
    folders = ("nas_plugins", "lightning_modules")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of the modules a source imports, those of ``import_module("...")`` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: 1 - node.level or None]
                base = ".".join([*parents, *filter(None, [base])])
            # "from nas_plugins import optuna" imports a host just as well.
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def belongs_to(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def judged(name: str) -> str | None:
    """The package that a rule has to allow; ``None`` for the standard library."""
    for host in HOSTS:
        if belongs_to(name, host):
            return host
    root = name.partition(".")[0]
    return None if root in sys.stdlib_module_names or not root else root


@pytest.mark.parametrize("source", sources())
def test_imports_keep_the_walls(source):
    rule = max((entry for entry in ALLOWED if source.startswith(entry)), key=len)
    package = source.rpartition("/")[0].replace("/", ".")
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    wanted = {judged(name) for name in imports(tree, package)} - {None}
    assert wanted <= ALLOWED[rule], f"{source} imports {sorted(wanted - ALLOWED[rule])}"


def test_no_room_is_forgotten():
    """A table entry without a file hides a mistake in the table."""
    for entry in ALLOWED:
        if entry != "lightning_modules/callbacks/hpbandster.py":
            assert any(source.startswith(entry) for source in sources()), entry


def test_the_reader_sees_every_form():
    text = (
        "import torch.nn\nfrom nas_plugins import optuna\nfrom . import b\nfrom ..nni import c\n"
        "def f():\n    importlib.import_module('hpbandster')\n"
    )
    assert set(imports(ast.parse(text), "nas_plugins.drawing")) == {
        "torch.nn",
        "nas_plugins.optuna",
        "nas_plugins.drawing.b",
        "nas_plugins.nni.c",
        "hpbandster",
    }
    assert judged("nas_plugins.nni.c") == "nas_plugins.nni"
    assert judged("json.decoder") is None


# -- in a process of its own ------------------------------------------------------------

OPTUNA = ("optuna", "optuna_integration", "optuna_dashboard")
LIGHTNING_ITSELF = ("pytorch_lightning", "lightning", "lightning_fabric", "torchmetrics")
NNI = ("nni",)
HPBANDSTER = ("hpbandster", "Pyro4")


# None in sys.modules would do, but SciPy looks there for torch without asking what it got.
MASK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_without(absent: tuple[str, ...], program: str) -> None:
    """Run a program in a process where some packages are not installed."""
    source = MASK.format(absent=absent) + program
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_of_the_package_loads_no_framework():
    run_without(
        (),
        "import nas_plugins, lightning_modules, nas_plugins.drawing as d, sys\n"
        "heavy = {'torch', 'optuna', 'nni', 'hpbandster', 'pytorch_lightning', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n",
    )


def test_bare_import_loads_no_configspace():
    run_without(
        (), "import nas_plugins, sys\nassert not {'ConfigSpace', 'numpy'} & set(sys.modules)\n"
    )


def test_strategies_search_without_torch_or_any_host():
    run_without(
        ("torch", *OPTUNA, *NNI, *HPBANDSTER, *LIGHTNING_ITSELF),
        """
from ConfigSpace import ConfigurationSpace
from nas_plugins import SearchSpace
from nas_plugins.strategies import REGISTRY, create
space = SearchSpace(ConfigurationSpace({"op": ["a", "b"], "depth": (1, 3)}))
for name in REGISTRY:
    strategy = create(name, space, seed=0)
    for _ in range(3):
        strategy.tell(strategy.ask(), 0.5)
""",
    )


def test_optuna_host_alone():
    run_without(
        ("torch", *NNI, *HPBANDSTER, *LIGHTNING_ITSELF),
        """
import optuna
from ConfigSpace import ConfigurationSpace
from nas_plugins import SearchSpace
from nas_plugins.optuna import RegularizedEvolutionSampler, architecture_of, suggest
space = SearchSpace(ConfigurationSpace({"op": ["a", "b"], "depth": (1, 3)}))
sampler = RegularizedEvolutionSampler(space, seed=0, population_size=2, sample_size=1)
study = optuna.create_study(direction="maximize", sampler=sampler)
study.optimize(lambda trial: suggest(trial, space)["depth"], n_trials=4)
assert architecture_of(study.best_trial, space) in space
""",
    )


def test_nni_host_alone():
    run_without(
        ("torch", *OPTUNA, *HPBANDSTER, *LIGHTNING_ITSELF),
        """
import json
from ConfigSpace import ConfigurationSpace
from nas_plugins import SearchSpace
from nas_plugins.nni import ArchitectureTuner, architecture_of, to_nni
space = SearchSpace(ConfigurationSpace({"op": ["a", "b"], "depth": (1, 3)}))
tuner = ArchitectureTuner(strategy="random", seed=0)
tuner.update_search_space(json.loads(json.dumps(to_nni(space))))
parameters = tuner.generate_parameters(0)
assert architecture_of(space, parameters) in space
""",
    )


def test_hpbandster_host_alone():
    run_without(
        ("torch", *OPTUNA, *NNI, *LIGHTNING_ITSELF),
        """
from ConfigSpace import ConfigurationSpace
from nas_plugins import SearchSpace
from nas_plugins.hpbandster import ArchitectureConfigGenerator
from nas_plugins.strategies import create
space = SearchSpace(ConfigurationSpace({"op": ["a", "b"], "depth": (1, 3)}))
generator = ArchitectureConfigGenerator(create("random", space, seed=0))
config, _ = generator.get_config(1.0)
assert space.validate(config)
""",
    )


def test_lightning_alone():
    run_without(
        (*OPTUNA, *NNI, *HPBANDSTER),
        """
from lightning_modules import DigitsDataModule, train_child
from nas_plugins import Budget, spaces
space = spaces.load("nas_bench_201", channels=2, num_cells=1)
data = DigitsDataModule(batch_size=128)
result = train_child(
    space, space.default(), data, budget=Budget(data_fraction=0.1), accelerator="cpu"
)
assert 0 <= result.score <= 1
""",
    )


@pytest.mark.parametrize(
    ("extra", "package", "masked"),
    [
        ("optuna", "nas_plugins.optuna", OPTUNA),
        ("nni", "nas_plugins.nni", NNI),
        ("hpbandster", "nas_plugins.hpbandster", HPBANDSTER),
        ("bayesian", "nas_plugins.bayesian", ("botorch",)),
    ],
)
def test_missing_extra_names_its_install_line(extra, package, masked):
    run_without(
        masked,
        f"""
from nas_plugins import MissingExtraError
try:
    import {package}
except MissingExtraError as error:
    assert "pip install 'nas-plugins[{extra}]'" in str(error), error
else:
    raise SystemExit("{package} was imported without {extra}")
""",
    )


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("nas_plugins.optuna", (*NNI, *HPBANDSTER, *LIGHTNING_ITSELF, "torch")),
        ("nas_plugins.nni", (*OPTUNA, *HPBANDSTER, *LIGHTNING_ITSELF, "torch")),
        ("nas_plugins.hpbandster", (*OPTUNA, *NNI, *LIGHTNING_ITSELF, "torch")),
    ],
)
def test_adapter_loads_no_other_framework(package, others):
    run_without(
        (),
        f"import sys, {package}\n"
        f"loaded = set({others!r}) & set(sys.modules)\n"
        f"assert not loaded, loaded\n",
    )
