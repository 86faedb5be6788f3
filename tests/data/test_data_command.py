"""`python -m brainseg.data`: what it prints, writes and returns."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figshare_files import mat_bytes
from PIL import Image

from brainseg.compose import freeze
from brainseg.data.__main__ import main
from brainseg.data.findings import CHECKS
from brainseg.data.load import source_of_folder

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def test_a_clean_folder_is_verified_with_exit_code_0(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("1")
    folder.add("2")
    folder.metadata({"1": "P1", "2": "P2"})
    assert main(["verify", str(folder.root)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder.root}: 2 slices of 2 patient ids, images/ and masks/",
        "layout   'data.images=images/{id}.*' 'data.masks=masks/{id}.*'",
        "types    glioma 2",
        "sizes    20x24 2",
        "channels grey",
        "values   0 in 2 masks, 255 in 2 masks",
        "classes  foreground 2.50% of all pixels",
        "a slice  2.50% to 2.50% foreground, median 2.50%",
        "0 kind(s) of error, 0 kind(s) of warning",
    ]


def test_warnings_alone_give_exit_code_0(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        folder.add(f"{number:02}")
    assert main(["verify", str(folder.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder.root}: 12 slices, patients unknown, images/ and masks/"
    assert lines[-2:] == [
        "warning  all 12 slice(s) without a patient id: data.split_by=patient needs metadata.csv with id,patient_id",
        "0 kind(s) of error, 1 kind(s) of warning",
    ]


def test_the_first_ten_items_of_a_finding_are_listed(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("1")
    folder.metadata({"1": "P1"})
    for number in range(12):
        (folder.root / "images" / f"{number:02}.txt").touch()
    assert main(["verify", str(folder.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-13] == "warning  12 file(s) that are no slice: they are ignored"
    assert [line.strip() for line in lines[-12:-2]] == [f"images/{number:02}.txt" for number in range(10)]
    assert lines[-2].strip() == "... and 2 more (all of them with --json)"


def test_verify_reads_as_a_training_with_the_same_overrides(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[0, :5], mask[1, :8], mask[2, :4] = 1, 2, 255  # 5 and 8 of 200 pixels, and 4 that nobody labelled
    for slice_id in ("1", "2"):
        folder.add(slice_id, image=np.random.default_rng(int(slice_id)).integers(0, 256, (10, 20), np.uint8), mask=mask)
    folder.metadata({"1": "P1", "2": "P2"})
    assert main(["verify", str(folder.root), "data.classes={car: 1, road: 2, sky: 3}", "data.ignore=255"]) == 0
    assert capsys.readouterr().out.splitlines()[4:] == [
        "channels grey",
        "values   0 in 2 masks, 1 in 2 masks, 2 in 2 masks, 255 in 2 masks",
        "classes  car 2.50%, road 4.00%, sky 0.00% of all pixels",
        "a slice  6.50% to 6.50% foreground, median 6.50%",
        "warning  1 class(es) that no mask has: correct its values in data.classes, or leave it out",
        "           sky",
        "0 kind(s) of error, 1 kind(s) of warning",
    ]


def test_values_that_no_class_has_are_an_error_of_verify(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("1")
    assert main(["verify", str(folder.root), "data.classes={car: 1}"]) == 1
    assert "error    1 mask(s) that data.classes doesn't fit: name every value there" in capsys.readouterr().out


def test_a_wrong_override_is_one_line(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("1")
    assert main(["verify", str(folder.root), "data.clases={car: 1}"]) == 2
    assert "data.clases is not a configuration key; did you mean 'data.classes'?" in capsys.readouterr().err


def test_errors_give_exit_code_1(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("1")
    folder.add("2")
    folder.metadata({"1": "P1", "2": "P2"})
    (folder.root / "masks" / "2.png").unlink()
    assert main(["verify", str(folder.root)]) == 1
    out = capsys.readouterr().out
    assert "error    1 image(s) without a mask: add the mask, or remove the image\n           images/2.png\n" in out
    assert out.endswith("1 kind(s) of error, 0 kind(s) of warning\n")


def test_json_holds_the_whole_report(folder: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(12):
        folder.add(str(number))
    assert main(["verify", str(folder.root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slices"] == 12
    assert [len(finding["items"]) for finding in report["findings"]] == [12]


@pytest.mark.parametrize(
    "command", [["verify", "DIR"], ["preview", "DIR"], ["import", "figshare", "DIR", "OUT"], ["phantom", "FILE"]]
)
def test_wrong_input_is_one_line_and_exit_code_2(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").touch()
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", captured.err)
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["check", "DIR"],
        ["import", "dicom", "A", "B"],
        ["preview", "D", "--count", "0"],
        ["phantom", "D", "--seed=-1"],
    ],
)
def test_wrong_usage_leaves_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_preview_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        (tmp_path / "set" / part).mkdir(parents=True)
        pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
        Image.fromarray(pixels).save(tmp_path / "set" / part / f"{part}1.png")
        Image.fromarray((pixels > 32).astype(np.uint8) * 255).save(tmp_path / "set" / part / f"{part}1_mask.png")
    assert main(["preview", "set"]) == 0
    *notes, file = capsys.readouterr().out.splitlines()
    assert file == "set-preview.png"
    assert any(note.startswith("note: set: 1 folder(s) left out of training") for note in notes)


def test_a_preview_goes_to_the_current_folder(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.add("1")
    monkeypatch.chdir(tmp_path)
    assert main(["preview", "set"]) == 0
    assert capsys.readouterr().out == "set-preview.png\n"
    assert main(["preview", "set"]) == 2
    assert main(["preview", "set", "--force", "--count", "1"]) == 0
    assert main(["preview", "set", "-o", "other.png"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.png", "set", "set-preview.png"]


def test_an_import_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "src").mkdir()
    for number in (1, 2):
        (tmp_path / "src" / f"{number}.mat").write_bytes(mat_bytes())
    out = tmp_path / "out"
    assert main(["import", "figshare", str(tmp_path / "src"), str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}: 2 slices; check them with python -m brainseg.data verify {out}\n"
    assert captured.err == ""  # done before a line of progress is due


def test_a_written_phantom_has_no_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "phantom"
    assert main(["phantom", str(out), "--patients", "3", "--seed", "5"]) == 0
    count = len(source_of_folder(out).slices())
    assert capsys.readouterr().out == f"{out}: {count} slices of 3 patients\n"
    assert main(["verify", str(out)]) == 0


def test_a_written_phantom_with_classes_says_how_to_train_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phantom"
    assert main(["phantom", str(out), "--patients", "2", "--kind", "classes"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line == f"train on it with data=folder data.root={out} 'data.classes={{core: 1, rim: 2, oedema: 3}}'"
    config = freeze(shlex.split(line.removeprefix("train on it with ")))
    assert config.data.labels.names == ("core", "rim", "oedema")
    values = {int(value) for file in (out / "masks").iterdir() for value in np.unique(Image.open(file))}
    assert values == {0, 1, 2, 3}


@pytest.mark.heavy
def test_help_shows_examples_and_loads_no_library() -> None:
    code = (
        "import sys\nfrom brainseg.data.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'numpy', 'PIL', 'h5py', 'tensorflow'} & sys.modules.keys()\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "python -m brainseg.data verify demo" in shown


@pytest.mark.heavy
def test_a_reader_that_leaves_early_gets_no_traceback(folder: Any) -> None:
    folder.add("1")
    command = [sys.executable, "-m", "brainseg.data", "verify", str(folder.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


def test_the_documentation_lists_every_check_with_its_severity() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (error|warning) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {name: str(check.severity) for name, check in CHECKS.items()}
