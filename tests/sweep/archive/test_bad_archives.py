"""Files that `sweep export` hasn't written: every command that reads one ends with one line and exit code 2."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import refusal
from made_archives import change_json, members, write_members

from brainseg.compare import __main__ as compare
from brainseg.report import __main__ as report
from brainseg.runs import archive_file
from brainseg.sweep import __main__ as sweep

COMMANDS: dict[str, Callable[[str, Any], str]] = {
    "report": lambda file, capsys: refusal.refused(report.main, file, capsys),
    "compare": lambda file, capsys: refusal.refused(compare.main, file, capsys),
    "status": lambda file, capsys: refusal.refused(sweep.main, f"status {file}", capsys),
    "check": lambda file, capsys: refusal.refused(sweep.main, f"check {file}", capsys),
}


def not_a_zip(path: Path) -> None:
    path.write_bytes(b"trial,state\n0,complete\n")


def gone(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def flipped_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:210] = bytes(10)
    path.write_bytes(bytes(content))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("runs/bomb.csv", "w") as file:
        for _ in range(8):
            file.write(bytes(2**20))


def more_than_it_says(path: Path) -> None:
    """The directory gives a member's size as 10 bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive.json", bytes(100_000))
    content = data.getvalue().replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    path.write_bytes(content)


def outside(path: Path) -> None:
    write_members(path, members(path) | {"../outside.txt": b"x"})


def absolute(path: Path) -> None:
    write_members(path, members(path) | {"/etc/outside.txt": b"x"})


def backslashes(path: Path) -> None:
    write_members(path, members(path) | {"runs\\..\\..\\outside.txt": b"x"})


def link(path: Path) -> None:
    member = zipfile.ZipInfo("runs/link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def twice(path: Path) -> None:
    content = path.read_bytes()
    again = io.BytesIO(content.replace(b"slices.csv", b"curves.csv"))
    path.write_bytes(again.getvalue())


def other_packing(path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_LZMA) as archive:
        archive.writestr("runs/packed", "x")


def other_schema(path: Path) -> None:
    change_json(path, "archive.json", lambda about: about.update(schema_version=2))


def other_kind(path: Path) -> None:
    write_members(path, {"archive.json": b'{"kind": "wandb", "schema_version": 1}'})


def without_trials(path: Path) -> None:
    write_members(path, {name: text for name, text in members(path).items() if not name.endswith("trials.json")})


def without_curves(path: Path) -> None:
    write_members(path, {name: text for name, text in members(path).items() if name != "curves.csv"})


def not_json(path: Path) -> None:
    write_members(path, members(path) | {"runs.json": b"\x80\x04pickle"})


def deep_json(path: Path) -> None:
    write_members(path, members(path) | {"runs.json": b"[" * 200_000})


def list_for_a_table(path: Path) -> None:
    write_members(path, members(path) | {"runs.json": b'[{"run_id": ["x"]}]'})


def infinite_curve(path: Path) -> None:
    write_members(path, members(path) | {"curves.csv": b"run_id,metric,epoch,value\nmemory-2,loss,1,inf\n"})


def curve_of_no_run(path: Path) -> None:
    write_members(path, members(path) | {"curves.csv": b"run_id,metric,epoch,value\nmemory-9,loss,1,0.5\n"})


BAD: dict[Callable[[Path], None], str] = {
    not_a_zip: "can't be read as a zip archive (File is not a zip file); copy it or ask for it again",
    gone: "isn't there; name a file that sweep export has written",
    cut_off: "can't be read as a zip archive (",
    flipped_bytes: "can't be read as a zip archive (",
    bomb: "isn't read: it unpacks to ",
    more_than_it_says: "can't be read as a zip archive (Bad CRC-32 for file 'archive.json')",
    outside: "isn't read: its member '../outside.txt' has a name that leads outside",
    absolute: "isn't read: its member '/etc/outside.txt' has a name that leads outside",
    backslashes: "isn't read: its member 'runs\\\\..\\\\..\\\\outside.txt' has a name that leads outside",
    link: "isn't read: its member 'runs/link' is a link or encrypted",
    twice: "isn't read: its member 'curves.csv' is there twice",
    other_packing: "isn't read: its member 'runs/packed' is packed by method 14",
    other_schema: "is a 'brainseg study' of schema_version 2, and this brainseg reads a 'brainseg study' of 1",
    other_kind: "is a 'wandb' of schema_version 1, and this brainseg reads a 'brainseg study' of 1",
    without_curves: "has no member curves.csv; ask for a file that sweep export has written",
    not_json: "can't be read as a zip archive ('utf-8' codec",
    deep_json: ": runs.json can't be read; ask for a file that sweep export has written",
    list_for_a_table: ": runs.json can't be read; ask for a file that sweep export has written",
    infinite_curve: ": curves.csv can't be read; ask for a file that sweep export has written",
    curve_of_no_run: ": curves.csv can't be read; ask for a file that sweep export has written",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("spoil", "message"), BAD.items(), ids=[each.__name__ for each in BAD])
def test_a_bad_file_is_one_line(
    spoil: Callable[[Path], None],
    message: str,
    command: str,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(exported)
    monkeypatch.setattr(archive_file, "MAX_BYTES", 4 * 2**20)
    said = COMMANDS[command](str(exported), capsys)
    assert said.startswith(f"{exported}{'' if message.startswith(':') else ' '}{message}")


@pytest.mark.parametrize("command", ["report", "status", "check"])
def test_a_file_without_its_trials_is_one_line(
    command: str, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_trials(exported)
    assert COMMANDS[command](str(exported), capsys).startswith(f"{exported} has no member studies/quick/trials.json")


def spoiled_trials() -> dict[str, Callable[[Any], None]]:
    return {
        "state": lambda trials: trials[0].update(state="DONE"),
        "values": lambda trials: trials[0].update(values=[1.0, 2.0]),
        "text": lambda trials: trials[0].update(values=["high"]),
        "number": lambda trials: trials[0].update(number=3),
        "distribution": lambda trials: trials[0]["distributions"].update({"model.depth": '{"name": "os.system"}'}),
        "parameter": lambda trials: trials[0]["params"].pop("model.depth"),
    }


@pytest.mark.parametrize("kind", spoiled_trials())
def test_trials_that_no_study_has_are_one_line(kind: str, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(exported, "studies/quick/trials.json", spoiled_trials()[kind])
    assert COMMANDS["status"](str(exported), capsys) == (
        f"{exported}: studies/quick/trials.json can't be read; ask for a file that sweep export has written"
    )


def test_a_study_of_another_version_is_one_line(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(
        exported, "studies/quick/study.json", lambda study: study["attributes"]["definition"].update(schema_version=9)
    )
    assert "the study has schema_version 9" in COMMANDS["status"](str(exported), capsys)


def test_what_steers_a_terminal_is_not_shown(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(exported, "runs.json", lambda runs: runs[1].update(name="\x1b]0;mine\x07name"))
    assert compare.main([str(exported), "--json", "-"]) == 0
    names = {run["name"] for run in json.loads(capsys.readouterr().out)["runs"]}
    assert "?]0;mine?name" in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param("FILE other.zip", "one archive is read at a time, got FILE and other.zip; name one", id="two"),
        pytest.param("FILE --data .", "FILE has the study itself and no predicted masks; leave --data out", id="data"),
        pytest.param("FILE --storage x", "FILE has the study itself and no predicted masks", id="storage"),
        pytest.param("FILE memory-9", "no run and no study 'memory-9' here", id="run"),
    ],
)
def test_words_that_do_not_go_with_a_file(
    arguments: str, message: str, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal.refused(report.main, arguments.replace("FILE", str(exported)), capsys)
    assert said.replace(str(exported), "FILE").startswith(message)


def test_a_configuration_that_is_nested_too_deeply_is_one_line(
    exported: Path, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_members(exported, members(exported) | {"runs/memory-7/config.yaml": b"- " * 20_000})
    assert COMMANDS["check"](f"{exported} --part winner", capsys).startswith("config.yaml of run memory-7 is not YAML")
