"""What the documents show works: commands compose, make targets exist, the tables of keys are true."""

import importlib
import re
import runpy
import shlex
import typing
from pathlib import Path
from typing import Any

import pytest
from test_architecture import ORDER

import brainseg.sweep.__main__ as sweep
from brainseg import compose, config
from brainseg.__main__ import COMMANDS
from brainseg.config import KEYS, RunConfig, flatten
from brainseg.plugins import BUILT_IN
from examples import EXAMPLES, forgotten, write_example

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
KINDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "names with values",
    Any: "value or list",
}
ALLOWED = {
    "data.name": tuple(BUILT_IN["readers"]),
    "data.phantom_kind": (*config.PHANTOM_CLASSES, "only with `data=phantom`"),
    "data.reading": tuple(map(str, config.READINGS)),
    "data.score_by": config.SCORES_BY,
    "data.split_by": config.SPLITS_BY,
    "data.augment": tuple(BUILT_IN["augmentations"]),
    "model.name": tuple(BUILT_IN["networks"]),
    "model.stem": (*map(str, config.STEMS), "only with `model=unet`"),
    "model.encoder": (*config.ENCODERS, "only with `model=encoder_unet`"),
    "model.norm": (*config.NORMS, "only with `model=unet` or `model=encoder_unet`"),
    "optimizer.name": tuple(BUILT_IN["optimizers"]),
    "optimizer.schedule": config.SCHEDULES,
    "train.loss": (*BUILT_IN["losses"], *config.LOSS_SUMS, "or several joined by `+`"),
    "train.precision": config.PRECISIONS,
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def shown_lines(page: Path) -> list[str]:
    """The lines of fenced and of indented blocks, those that end in a backslash joined, and the commands of tables.

    Commands with optional parts in brackets are usage, not examples, and are left out.
    """
    text = page.read_text(encoding="utf-8")
    indented = "".join(re.findall(r"^ {4}.*\n", text, flags=re.MULTILINE))
    in_tables = re.findall(r"^\| `(python -m [^`\[]+)` \|", text, flags=re.MULTILINE)
    whole = "\n".join([*(body for _, body in blocks(page)), indented, *in_tables])
    return [line.strip() for line in whole.replace("\\\n", " ").splitlines()]


def commands(start: str) -> list[Any]:
    """The commands of all pages that begin with `start`, each once, with the page in the test's name."""
    lines = ((re.sub(r"\s+# .*", "", line), page.name) for page in reversed(PAGES) for line in shown_lines(page))
    found = {line: page for line, page in lines if line.startswith(start)}
    return [
        # Every trial of that study is composed, which takes seconds.
        pytest.param(line, id=f"{page}: {line}", marks=[pytest.mark.heavy] if " run ablation " in line else [])
        for line, page in found.items()
    ]


def arguments_of(line: str) -> list[str]:
    """What follows `python -m MODULE`, without the comment and what the shell would take."""
    words = shlex.split(line, comments=True)[3:]
    end = next((place for place, word in enumerate(words) if word in ("|", "&&", ">", "&")), len(words))
    return [re.sub(r"\bN\b", "3", word) for word in words[:end]]


def table(page: Path) -> dict[str, list[str]]:
    """Key -> the other cells of its row, in tables whose first cell is a key in backticks."""
    rows = re.findall(r"^\| `([a-z_.]+)` \|(.*)\|$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {key: [cell.strip() for cell in rest.split("|")] for key, rest in rows}


def written(value: object) -> str:
    """A default as it stands in a table."""
    if isinstance(value, tuple):
        return str(list(value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def kind_of(key: str) -> str:
    kind = (typing.get_args(KEYS[key].type) or (KEYS[key].type,))[0]
    return KINDS[typing.get_origin(kind) or kind]


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_the_readme_shows_how_to_train() -> None:
    assert any(line.startswith("python -m brainseg.train") for line in shown_lines(ROOT / "README.md"))


def test_the_table_of_the_readme_has_every_command() -> None:
    rows = re.findall(
        r"^\| `python -m brainseg\.(\w+)", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert rows == list(COMMANDS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration files and plugins of the manual."""
    folder = tmp_path_factory.mktemp("project")
    write_examples(folder)
    for name in EXAMPLES:
        write_example(name, folder)
    return folder


@pytest.mark.parametrize("line", commands("python -m brainseg.train"))
def test_a_training_command_composes(line: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with forgotten():
        _compose(arguments_of(line))


def _compose(arguments: list[str]) -> None:
    overrides = [word for word in arguments if word not in ("-m", "--multirun", "--cfg", "job", "--help", "--dry-run")]
    assert not [word for word in overrides if word.startswith("-")]
    if "-m" in arguments or "--multirun" in arguments:
        jobs = compose.expand(overrides)
        assert len(jobs) > 1
        for job in jobs:
            compose.freeze(job)
    else:
        compose.freeze(overrides)


# `serve` runs until Ctrl-C: tests/sweep/server starts it.
@pytest.mark.parametrize(
    "line", [each for each in commands("python -m brainseg.sweep") if " serve" not in each.values[0]]
)
def test_a_sweep_command_is_understood_and_its_study_can_be_trained(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")  # some studies lie there
    name, *rest = arguments_of(line)
    if name == "run":  # a dry run of the same
        storage = rest.index("--storage") if "--storage" in rest else len(rest)
        assert sweep.main(["plan", *rest[:storage], *rest[storage + 2 :]]) == 0
    elif name == "plan":
        # What is timed would need as many threads as the other tests of this process.
        assert sweep.main([name, *(word for word in rest if word != "--time")]) == 0
    else:  # where no study is, and no database
        words = [word for word in rest if "://" not in word and word != "--storage"]
        assert sweep.main([name, *words]) == (0 if name == "list" else 2)


COVERED = ("brainseg.train", "brainseg.sweep")
OTHERS = [each for each in commands("python -m brainseg") if not any(name in each.values[0] for name in COVERED)]


@pytest.mark.parametrize("line", OTHERS)
def test_another_command_is_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where no DIR is, so that most commands end at once
    monkeypatch.setattr("brainseg.tracking.mlflow.connection.START_PATIENCE_S", 0.1)  # for a server that isn't there
    module = importlib.import_module(f"{shlex.split(line)[2]}.__main__")
    code = module.main(arguments_of(line))
    # An unknown subcommand or option would have left by SystemExit.
    assert code in (0, 2)
    assert "usage:" not in capsys.readouterr().err


def test_the_map_of_the_house_names_every_part_in_the_order_of_imports() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## The house")[2].partition("\n## ")[0]
    rows = [
        re.findall(r"`([\w./]+)`", row.split("|")[1]) for row in re.findall(r"^\| `.*$", section, flags=re.MULTILINE)
    ]
    named = [place.rstrip("/").removesuffix(".py") for row in rows for place in row]
    parts = {
        path.stem for path in (ROOT / "brainseg").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(named) == sorted(parts - {"__init__", "__main__"})
    place = {part: number for number, row in enumerate(ORDER) for part in row}
    listed = [place[part] for part in named if part not in ("training", "analysis")]  # at the end: only old names
    assert listed == sorted(listed)


def files_of_the_everyday_changes() -> list[str]:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Ten everyday changes")[2].partition("\n## ")[0]
    return [file for file in re.findall(r"`([\w/]+\.\w+)`", section) if "NAME" not in file]


@pytest.mark.parametrize("file", sorted(set(files_of_the_everyday_changes())))
def test_a_file_that_an_everyday_change_edits_exists(file: str) -> None:
    assert (ROOT / "brainseg" / file).exists() or (ROOT / file).exists()


def test_ten_everyday_changes_are_described_with_names_that_exist() -> None:
    section = CONTRIBUTING.read_text(encoding="utf-8").partition("## Ten everyday changes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?:a|an) .*$", section, flags=re.MULTILINE)
    assert len(rows) == 10
    source = "".join(
        path.read_text(encoding="utf-8") for folder in ("brainseg", "tests") for path in (ROOT / folder).rglob("*.py")
    )
    for name in re.findall(r"`([A-Z][A-Za-z_]+|record_\w+|make_parser)`", "".join(rows)):
        assert name == "NAME" or re.search(rf"^(def |class )?{name}\b", source, flags=re.MULTILINE), name


def test_every_make_target_that_is_shown_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    lines = [line for page in (*PAGES, CONTRIBUTING) for line in shown_lines(page) if line.startswith("make ")]
    shown = {word for line in lines for word in shlex.split(line, comments=True)[1:] if "=" not in word}
    assert {"demo", "test"} <= shown <= targets


@pytest.mark.parametrize(("name", "cell"), [("configuration.md", "| `seed` |"), ("sweeps.md", "| `percentile` |")])
def test_the_tables_of_keys_and_options_are_current(name: str, cell: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    filled = runpy.run_path(str(ROOT / "docs" / "key_tables.py"))["filled"]
    assert filled(page) == page, "make docs writes them anew"
    assert cell in page
    assert filled(page.replace(cell, "| `sed` |")) == page


def test_every_key_stands_in_the_manual_with_its_default() -> None:
    cells = {key: row for key, row in table(CONFIGURATION).items() if len(row) == 4}
    assert {key: row[1] for key, row in cells.items()} == {
        key: f"`{written(value)}`" for key, value in flatten(RunConfig()).items()
    }
    assert {key: row[0] for key, row in cells.items()} == {key: kind_of(key) for key in KEYS}
    assert all(all(row) for row in cells.values())


@pytest.mark.parametrize("key", ALLOWED)
def test_the_manual_lists_the_allowed_values(key: str) -> None:
    assert table(CONFIGURATION)[key][2] == ", ".join(ALLOWED[key])


def write_examples(folder: Path) -> list[Path]:
    """Writes the configuration files that the manual shows, under the names that they say."""
    written_files = []
    for language, text in blocks(CONFIGURATION):
        if language == "yaml":
            path = folder / re.findall(r"^# (conf/.+)$", text, flags=re.MULTILINE)[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            written_files.append(path)
    return written_files


def test_the_experiment_in_the_manual_sets_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_examples(tmp_path) == [tmp_path / "conf" / name for name in ("config.yaml", "experiment/small.yaml")]
    monkeypatch.chdir(tmp_path)
    assert compose.freeze([]).train.patience == 10
    frozen = flatten(compose.freeze(["experiment=small", "model.depth=3"]))
    assert {key: frozen[key] for key in ("data.name", "data.root", "optimizer.name", "optimizer.learning_rate")} == {
        "data.name": "folder",
        "data.root": "slices",
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.01,
    }
    assert (frozen["data.image_size"], frozen["model.depth"], frozen["model.base_filters"]) == (128, 3, 8)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_an_error_that_is_shown_is_what_is_said(page: Path) -> None:
    source = (ROOT / "tests" / "train" / "test_bad_inputs.py").read_text(encoding="utf-8")
    for line in shown_lines(page):
        if line.startswith("error: "):
            assert line.removeprefix("error: ") in source
