"""Who may import whom: the directions between the parts, and the one door of each library."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "brainseg"
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))

# Library -> the parts (folders or modules of brainseg) that may import it.
DOORS = {
    "hydra": {"compose", "train"},
    "omegaconf": {"compose", "sweep", "train"},
    "optuna": {"sweep"},
    "mlflow": {"tracking"},
    "sqlalchemy": {"tracking", "sweep"},  # the lock of a study in PostgreSQL
    "PIL": {"data"},
    "h5py": {"data"},
    "onnx": {"exporting"},
    "onnxruntime": {"exporting"},
    "ai_edge_litert": {"exporting"},
}
# Part -> the parts of brainseg that it may import, itself aside. The commands may import all.
DIRECTIONS = {
    "errors": set[str](),
    "command_line": {"errors"},
    "config": {"errors"},
    "config_file": {"config", "errors"},
    "compose": {"config", "config_file", "errors"},
    "tracking": {"command_line", "config", "errors"},
    "data": {"command_line", "config", "errors"},
    "model": {"config", "errors"},
    "analysis": {"config", "config_file", "data", "errors", "model", "tracking"},
    "exporting": {"analysis", "config", "data", "errors", "model", "tracking"},
    "training": {"analysis", "config", "config_file", "data", "errors", "model", "tracking"},
    "sweep": {
        "analysis",
        "command_line",
        "compose",
        "config",
        "config_file",
        "data",
        "errors",
        "model",
        "tracking",
        "training",
    },
}
COMMANDS = {
    "__init__",
    "__main__",
    "train",
    "evaluate",
    "predict",
    "compare",
    "register",
    "export",
    "report",
    "gallery",
    "completion",  # knows the parsers of all
    "model_argument",  # what several of them take
}
# Reading with these runs code that a file carries.
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "eval", "exec"}
# Module -> a call of a `load_model` that isn't Keras's: MLflow loads the folder that was written the line before, by
# `analysis/serving`, which has Keras load the file in its safe mode.
LOADS_ITS_OWN = {"tracking/served_folder": "pyfunc.load_model"}
# Modules whose import must not start TensorFlow or MLflow: a command answers `--help` at once.
LIGHT = (
    "train",
    "evaluate",
    "predict",
    "compare",
    "report",
    "gallery",
    "register",
    "export",
    "compose",
    "config",
    "errors",
    "__main__",
    "data/__main__",
    "tracking/__main__",
    "sweep/__main__",
    "sweep/study_file",
    "sweep/plan",
)


def parsed(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere below `tree`, dotted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            # `from brainseg import compose` imports brainseg.compose.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    return module.split("/")[0]


def parts_imported(module: str) -> set[str]:
    """The parts of brainseg that the module imports."""
    names = [name.split(".") for name in imports(parsed(module)) if name.startswith("brainseg.")]
    known = {part_of(each) for each in MODULES}
    return {name[1] for name in names} & known


def dotted(node: ast.expr) -> str:
    """`yaml.load` for the expression yaml.load; empty for what is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def test_every_part_has_its_directions() -> None:
    assert {part_of(module) for module in MODULES} <= DIRECTIONS.keys() | COMMANDS


@pytest.mark.parametrize("module", [module for module in MODULES if part_of(module) in DIRECTIONS])
def test_a_module_imports_only_what_lies_below_it(module: str) -> None:
    allowed = DIRECTIONS[part_of(module)] | {part_of(module)}
    assert parts_imported(module) <= allowed


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    importers = {
        part_of(module) for module in MODULES if library in {name.split(".")[0] for name in imports(parsed(module))}
    }
    assert importers <= DOORS[library]


def test_the_doors_that_exist_are_used() -> None:
    used = {name.split(".")[0] for module in MODULES for name in imports(parsed(module))}
    assert {"hydra", "omegaconf", "optuna", "mlflow", "PIL", "h5py"} <= used


@pytest.mark.parametrize("module", MODULES)
def test_nothing_reads_what_could_run_code(module: str) -> None:
    tree = parsed(module)
    assert not UNSAFE_MODULES & {name.split(".")[0] for name in imports(tree)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not UNSAFE_CALLS & {dotted(call.func) for call in calls}
    for call in calls:
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        if dotted(call.func).rpartition(".")[2] == "load_model" and dotted(call.func) != LOADS_ITS_OWN.get(module):
            # Keras: only with safe_mode are layers that carry code refused.
            assert isinstance(named.get("safe_mode"), ast.Constant)
            assert ast.literal_eval(named["safe_mode"]) is True
        if dotted(call.func) in ("np.load", "numpy.load") and "allow_pickle" in named:
            assert ast.literal_eval(named["allow_pickle"]) is False


@pytest.mark.parametrize("module", LIGHT)
def test_a_command_imports_no_heavy_library_at_its_top(module: str) -> None:
    top = ast.Module(
        body=[node for node in parsed(module).body if isinstance(node, ast.Import | ast.ImportFrom)], type_ignores=[]
    )
    assert not {"tensorflow", "keras", "mlflow", "optuna", "matplotlib", "PIL"} & {
        name.split(".")[0] for name in imports(top)
    }
