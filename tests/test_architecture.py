"""Who may import whom: the order of the parts, the one door of each library, and what a command is."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "brainseg"
MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))

# A part (a folder or a module of brainseg) imports only from itself and from rows above its own.
ORDER = (
    {"errors"},
    {"classes", "cores", "keys", "parsing"},
    {"plugins"},
    {"config"},
    {"config_file", "compose"},
    {"cli"},
    {"data", "model", "tracking"},
    {"inference"},
    {"scoring"},
    {"drawing"},
    {"runs"},
    {"train"},
    {"training"},  # the former name of train
    {"evaluate", "compare"},
    {"plan", "sweep"},
    {"gallery", "report", "predict", "register", "export"},
    {"serve"},
    {"library"},
    {"analysis"},  # the loader of registered models of version 0.1
    {"completion"},  # knows the parsers of all commands
    {"__init__", "__main__"},
)
# Library -> the parts that may import it; a path with a slash allows that folder of a part alone.
DOORS = {
    "hydra": {"compose", "train"},
    "omegaconf": {"compose", "sweep", "train"},
    "optuna": {"sweep"},
    "mlflow": {"tracking", "serve/server"},  # which runs without brainseg
    "sqlalchemy": {"tracking", "sweep"},  # the lock of a study in PostgreSQL
    "PIL": {"data"},
    "h5py": {"data"},
    "nibabel": {"data/volumes/nifti_file"},
    "scipy": {"data", "inference", "scoring"},
    "plotly": {"drawing", "sweep/outcome"},
    "matplotlib": {"drawing", "sweep/outcome"},
    "jinja2": {"drawing"},
    "rich": {"cli", "sweep", "train"},
    "onnx": {"export"},
    "ray": {"sweep/launchers"},
    "onnxruntime": {"export"},
    "ai_edge_litert": {"export"},
}
# Reading with these runs code that a file carries.
UNSAFE_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "eval", "exec"}
# Module -> a call of a `load_model` that isn't Keras's: MLflow loads the folder that was written the line before, by
# `register/serving`, which has Keras load the file in its safe mode.
LOADS_ITS_OWN = {"tracking/mlflow/model_folders": "pyfunc.load_model", "serve/server": "pyfunc.load_model"}
HEAVY = {"tensorflow", "keras", "mlflow", "optuna", "matplotlib", "PIL"}
# Modules, the commands aside, whose import must not start a heavy library: `--help` needs them.
LIGHT = (
    *("config", "errors", "keys", "library", "plugins", "sweep/study/study_file", "sweep/study/plan"),
    *(module for module in MODULES if module.startswith("compose/")),
)


@functools.cache
def parsed(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


@functools.cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(module)))


def imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every module that these import, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""
            # `from brainseg import compose` imports brainseg.compose.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def imported_by(module: str) -> frozenset[str]:
    return frozenset(imports(nodes(module)))


@functools.cache
def libraries_of(module: str) -> frozenset[str]:
    return frozenset(name.split(".")[0] for name in imported_by(module))


def part_of(module: str) -> str:
    return module.split("/")[0]


PARTS = {part_of(module) for module in MODULES}
# Each is the folder of its name: `python -m brainseg.NAME`.
COMMANDS = sorted(module for module in MODULES if module.endswith("/__main__"))


def parts_imported(module: str) -> set[str]:
    """The parts of brainseg that the module imports."""
    return {name.split(".")[1] for name in imported_by(module) if name.startswith("brainseg.")} & PARTS


def modules_imported(module: str) -> set[str]:
    """The modules of brainseg that the module imports."""
    paths = {name.removeprefix("brainseg.").replace(".", "/") for name in imported_by(module)}
    return {known for path in paths for known in (path, f"{path}/__init__") if known in MODULES}


def dotted(node: ast.expr) -> str:
    """`yaml.load` for the expression yaml.load; empty for what is no dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def test_every_part_has_its_place_in_the_order() -> None:
    placed = [part for row in ORDER for part in row]
    assert sorted(placed) == sorted(PARTS)


def test_a_module_imports_only_what_lies_below_it() -> None:
    rows = {part: row for row, parts in enumerate(ORDER) for part in parts}
    upward = {
        module: parts_imported(module) - {part_of(module)}.union(*ORDER[: rows[part_of(module)]]) for module in MODULES
    }
    assert {module: parts for module, parts in upward.items() if parts} == {}


def test_no_module_imports_itself_by_a_detour() -> None:
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(modules_imported(module) - {module}):
                follow(other, (*path, module))
            done.add(module)

    for module in MODULES:
        follow(module, ())


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    importers = {module for module in MODULES if library in libraries_of(module)}
    assert {
        module for module in importers if not f"{module}/".startswith(tuple(f"{door}/" for door in DOORS[library]))
    } == set()


def test_the_doors_that_exist_are_used() -> None:
    used = {name for module in MODULES for name in libraries_of(module)}
    assert DOORS.keys() <= used


def test_nothing_reads_what_could_run_code() -> None:
    assert [module for module in MODULES if UNSAFE_MODULES & libraries_of(module)] == []
    unsafe = [
        f"{module}: {ast.unparse(node)}"
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call) and could_run_code(node, module)
    ]
    assert unsafe == []


def could_run_code(call: ast.Call, module: str) -> bool:
    name = dotted(call.func)
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    if name.rpartition(".")[2] == "load_model" and name != LOADS_ITS_OWN.get(module):
        return not is_constant(named.get("safe_mode"), True)  # only with it does Keras refuse layers that carry code
    if name in ("np.load", "numpy.load") and "allow_pickle" in named:
        return not is_constant(named["allow_pickle"], False)
    return name in UNSAFE_CALLS


def is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("module", [*COMMANDS, "__main__"])
def test_a_command_is_made_by_the_one_wrapper(module: str) -> None:
    tree = parsed(module)
    (made,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "main"]
    assert isinstance(made, ast.Call)
    assert dotted(made.func) in ("command", "plain_command")
    assert f"brainseg.cli.command.{dotted(made.func)}" in imported_by(module)
    assert ast.unparse(tree.body[-1]) == "if __name__ == '__main__':\n    sys.exit(main())"


def test_mlflows_own_tag_names_stand_in_one_folder() -> None:
    texts = [
        (module, node.value)
        for module in MODULES
        if not module.startswith("tracking/mlflow/")
        for node in nodes(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [each for each in texts if each[1].startswith("mlflow.") and each[1] != "mlflow.db"] == []


@pytest.mark.parametrize("module", [*COMMANDS, "__main__", *LIGHT])
def test_a_command_imports_no_heavy_library_at_its_top(module: str) -> None:
    assert not HEAVY & {name.split(".")[0] for name in imports(parsed(module).body)}
