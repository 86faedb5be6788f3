"""YAML and JSON that is made to hurt, or merely damaged, is refused in one line by whatever reads it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from refusal import refused

from brainseg.errors import InputError
from brainseg.parsing import ParseError, parse_json, parse_yaml
from brainseg.sweep.__main__ import main as sweep
from brainseg.train.__main__ import main as train
from brainseg.train.checkpoint import Checkpoints


def laughs(levels: int = 9) -> str:
    """Lists of ten lists each: a line stands for ten times as many values as the one before it."""
    lists = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lists += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(levels - 1)]
    return "\n".join(lists)


DEEP = "a: " + 3000 * "[" + 3000 * "]"
TEXTS = {
    "anchors": (laughs(), "stands for more than 100,000 values; write fewer"),
    "mappings": (
        f"a: &a {{{', '.join(f'k{n}: x' for n in range(1000))}}}\n" + "".join(f"c{n}: {{<<: *a}}\n" for n in range(99)),
        "stands for more than 100,000 values; write fewer",
    ),
    "within itself": ("a: &a [*a]", "has *a within &a; leave it out"),
    "brackets": (DEEP, "is nested deeper than 20 levels; make it flatter"),
    "dashes": (3000 * "- " + "x", "is nested deeper than 20 levels; make it flatter"),
    "long": ("# " + 2**20 * "x", "is longer than 1,048,576 characters; split it"),
    "NUL": ("name: a\0b", "is not YAML (line 1: the character 0x0000); correct it"),
    "escaped NUL": ('name: "a\\0b"', "has a text with the character U+0000; remove it"),
    "no such anchor": ("a: *b", "is not YAML (line 1: found undefined alias 'b'); correct it"),
    "no time": ("a: !!timestamp noon", "holds a value that can't be read ("),
    "many digits": (f"a: {5000 * '9'}", "holds a value that can't be read (Exceeds the limit (4300 digits) "),
    "code": ("a: !!python/object/apply:os.getcwd []", "is not YAML (line 1: could not determine a constructor "),
    "open": ("a: [1", "is not YAML (line 1: expected ',' or ']', but got '<stream end>'); correct it"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("main", "arguments", "file", "before"),
    [
        (sweep, "plan mine", "sweeps/mine.yaml", ":"),
        (sweep, "run quick launcher=mine", "conf/launcher/mine.yaml", ""),
        (train, "experiment=mine", "conf/experiment/mine.yaml", ""),
    ],
    ids=["study", "launcher", "experiment"],
)
@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_is_made_to_hurt_is_refused_in_one_line(
    text: str,
    main: Callable[[list[str]], int],
    arguments: str,
    file: str,
    before: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content, told = TEXTS[text]
    Path(file).parent.mkdir(parents=True)
    Path(file).write_text(content)
    line = refused(main, arguments, capsys)
    assert line.startswith(f"{file}{before} {told}")
    assert len(line) < 400


@pytest.mark.parametrize(
    ("main", "arguments", "file"),
    [(sweep, "plan mine", "sweeps/mine.yaml"), (train, "experiment=mine", "conf/experiment/mine.yaml")],
    ids=["study", "experiment"],
)
def test_what_is_nested_as_deeply_as_it_may_be_is_judged_by_its_key(
    main: Callable[[list[str]], int], arguments: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).parent.mkdir(parents=True)
    Path(file).write_text(f"# @package _global_\nnone_such: {19 * '['}{19 * ']'}")
    assert "none_such is not a " in refused(main, arguments, capsys)


def test_bytes_that_are_no_text_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("conf/experiment").mkdir(parents=True)
    Path("conf/experiment/mine.yaml").write_bytes(b"seed: \xff")
    line = refused(train, "experiment=mine", capsys)
    assert line.startswith("conf/experiment/mine.yaml can't be read ('utf-8' codec can't decode byte 0xff")


def test_anchors_that_stand_for_little_are_read() -> None:
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]") == {
        "a": {"x": 1},
        "b": {"x": 1, "y": 2},
        "c": [{"x": 1}, {"x": 1}],
    }
    assert len(parse_yaml(laughs(4))["a3"]) == 10  # which stand for 11,111 values


@pytest.mark.parametrize("text", [3000 * "[" + 3000 * "]", 3000 * '{"a":', "[1", "", '"a\0b"'])
def test_json_that_is_made_to_hurt_is_an_error_with_a_reason(text: str) -> None:
    with pytest.raises(ParseError, match=r"^is (nested too deeply; make it flatter|not JSON \(.*\); correct it)$"):
        parse_json(text)


@pytest.mark.parametrize("value", [3000 * "[" + 3000 * "]", 21 * "{a: " + "1" + 21 * "}"], ids=["lists", "mappings"])
def test_a_value_of_the_command_line_that_is_nested_too_deeply_is_refused(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(train, f"data.classes={value.replace(' ', '')}", capsys)
    assert line.endswith("... is nested deeper than 20 levels; write it with fewer brackets")


@pytest.mark.parametrize("text", ["[]", "null", "3", '"run"', "{", 3000 * "[", "{}", '{"schema_version": 1}', "\0"])
def test_a_damaged_manifest_of_a_checkpoint_is_one_line(text: str) -> None:
    folder = Path("mlruns/checkpoints/0a1b2c3d")
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    with pytest.raises(InputError, match=r"^resume=0a1b2c3d: ") as error:
        Checkpoints(Path("mlruns"), "0a1b2c3d").manifest()
    assert "\n" not in str(error.value)
