"""The import of MATLAB files, on files in the original's exact form."""

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from figshare_files import IMAGE, MASK, mat_bytes
from PIL import Image

from brainseg.data import figshare
from brainseg.data.figshare import import_figshare
from brainseg.data.load import source_of_folder
from brainseg.data.source import SliceInfo
from brainseg.errors import InputError


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """An empty folder for the download."""
    folder = tmp_path / "download"
    folder.mkdir()
    return folder


def refusal(src: Path, out: Path) -> str:
    """The error's text; nothing may be left beside what was there before."""
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(InputError) as caught:
        import_figshare(src, out)
    assert sorted(out.parent.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    path.write_bytes(buffer.getvalue())
    return buffer.getvalue()


def test_a_folder_of_slices_becomes_a_source(src: Path, tmp_path: Path) -> None:
    (src / "part").mkdir()
    (src / "part" / "10.mat").write_bytes(mat_bytes(label=3, pid="MR040240B", image=IMAGE * 10))
    (src / "2.mat").write_bytes(mat_bytes())
    (src / "cvind.mat").write_bytes(b"folds")
    (src / "README.txt").write_text("read me")
    calls: list[tuple[int, int]] = []
    out = tmp_path / "out"
    assert import_figshare(src, out, progress=lambda what, done, total: calls.append((done, total))) == 2
    assert calls == [(1, 2), (2, 2)]
    assert (out / "metadata.csv").read_text() == (
        "id,patient_id,tumor_type\n2,100360,meningioma\n10,MR040240B,pituitary\n"
    )
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.png")) == [
        "images/10.png",
        "images/2.png",
        "masks/10.png",
        "masks/2.png",
    ]
    source = source_of_folder(out)
    assert source.slices()[1] == SliceInfo(id="2", columns={"patient_id": "100360", "tumor_type": "meningioma"})
    for slice_id in ("2", "10"):  # scaled from its own range, each
        image, mask = source.read(slice_id)
        assert image[..., 0].tolist() == (IMAGE - 100).tolist()
        assert mask[..., 0].tolist() == MASK.tolist()
    with Image.open(out / "masks" / "2.png") as stored:
        assert np.unique(np.asarray(stored)).tolist() == [0, 255]


@pytest.mark.parametrize(("label", "tumor_type"), [(1, "meningioma"), (2, "glioma"), (3, "pituitary")])
def test_labels_are_named(src: Path, tmp_path: Path, label: int, tumor_type: str) -> None:
    (src / "1.mat").write_bytes(mat_bytes(label=label))
    import_figshare(src, tmp_path / "out")
    assert source_of_folder(tmp_path / "out").slices()[0].columns["tumor_type"] == tumor_type


def test_a_zip_of_zips_is_read_like_a_folder(src: Path, tmp_path: Path) -> None:
    inner = zipped(
        src / "inner.zip", {"1.mat": mat_bytes(pid="7"), "__MACOSX/._1.mat": b"junk", "sub/2.mat": mat_bytes()}
    )
    (src / "inner.zip").unlink()
    zipped(src / "all.zip", {"inner.zip": inner, "cvind.mat": b"folds", "README.txt": b"", "3.mat": mat_bytes()})
    assert import_figshare(src / "all.zip", tmp_path / "one") == 3
    assert import_figshare(src, tmp_path / "folder") == 3
    for name in ("one", "folder"):
        assert [item.id for item in source_of_folder(tmp_path / name).slices()] == ["1", "2", "3"]


def test_an_empty_folder_is_filled_and_gets_usual_permissions(src: Path, tmp_path: Path) -> None:
    (src / "1.mat").write_bytes(mat_bytes())
    out = tmp_path / "out"
    out.mkdir()
    usual = out.stat().st_mode
    import_figshare(src, out)
    assert out.stat().st_mode == usual
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download", "out"]


def test_a_folder_with_something_in_it_is_left_alone(src: Path, tmp_path: Path) -> None:
    (src / "1.mat").write_bytes(mat_bytes())
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    assert refusal(src, out) == f"{out} must be a new or an empty folder, but something is there; name another one"
    assert (out / "mine.txt").read_text() == "keep"


def test_the_folder_above_must_exist(src: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder; create it first"):
        import_figshare(src, tmp_path / "no" / "out")


def test_a_source_without_slices_is_refused(src: Path, tmp_path: Path) -> None:
    assert "doesn't exist" in refusal(src / "no", tmp_path / "out")
    (src / "cvind.mat").touch()
    assert "holds no .mat file" in refusal(src, tmp_path / "out")


def test_one_id_twice_is_refused(src: Path, tmp_path: Path) -> None:
    (src / "1.mat").write_bytes(mat_bytes())
    zipped(src / "a.zip", {"x/1.mat": mat_bytes()})
    assert refusal(src, tmp_path / "out") == (
        f"slice 1 is in {src / '1.mat'} and in {src / 'a.zip'}/x/1.mat; remove one of them"
    )


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: b"", "is not a readable MATLAB v7.3 file"),
        (lambda: b"MATLAB 5.0 MAT-file".ljust(600), "is not a readable MATLAB v7.3 file"),
        (lambda: mat_bytes()[:1500], "is not a readable MATLAB v7.3 file"),
        (lambda: mat_bytes(without="PID"), "has no"),
        (lambda: mat_bytes(label=4), "cjdata/label must be 1, 2 or 3, got 4"),
        (lambda: mat_bytes(pid="\x01"), "cjdata/PID must be text"),
        (lambda: mat_bytes(mask=MASK.T), "image and tumorMask must be of one size, got (4, 3) and (3, 4)"),
        (lambda: mat_bytes(mask=MASK * 2), "cjdata/tumorMask must be 0 or 1, got 0 to 2"),
        (lambda: mat_bytes(image=IMAGE.astype("S3")), "cjdata/image must be an array of numbers"),
    ],
)
def test_a_bad_slice_is_named_and_leaves_nothing_behind(
    src: Path, tmp_path: Path, make: Callable[[], bytes], wrong: str
) -> None:
    (src / "1.mat").write_bytes(mat_bytes())
    (src / "2.mat").write_bytes(make())
    text = refusal(src, tmp_path / "out")
    assert text.startswith(str(src / "2.mat"))
    assert wrong in text


def test_an_interrupted_import_leaves_nothing_behind(src: Path, tmp_path: Path) -> None:
    (src / "1.mat").write_bytes(mat_bytes())

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_figshare(src, tmp_path / "out", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["download"]


@pytest.mark.parametrize("name", ["../1.mat", "a/../../1.mat", "/etc/1.mat", "C:\\1.mat", "a\\..\\..\\1.mat"])
def test_an_archive_whose_members_leave_its_folder_is_refused(src: Path, tmp_path: Path, name: str) -> None:
    zipped(src / "a.zip", {name: mat_bytes()})
    assert "has a member that leaves its folder" in refusal(src, tmp_path / "out")


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(src: Path, tmp_path: Path) -> None:
    zipped(src / "a.zip", {"1.mat": bytes(2**21)})
    assert "a.zip: '1.mat' unpacks to more than 100 times its size" in refusal(src, tmp_path / "out")


@pytest.mark.parametrize(
    ("limit", "value", "wrong"),
    [
        ("MAX_MEMBERS", 1, "has 2 members, at most 1 are read"),
        ("MAX_TOTAL_BYTES", 5000, "at most 5000 are read"),
        ("MAX_MAT_BYTES", 100, "a slice has at most 100"),
        ("MAX_PIXELS", 11, "cjdata/image has 12 values, at most 11 are read"),
    ],
)
def test_what_is_too_much_is_refused(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, wrong: str
) -> None:
    zipped(src / "a.zip", {"1.mat": mat_bytes(), "2.mat": mat_bytes()})
    monkeypatch.setattr(figshare, limit, value)
    assert wrong in refusal(src, tmp_path / "out")


def test_a_damaged_archive_is_named(src: Path, tmp_path: Path) -> None:
    content = bytearray(zipped(src / "a.zip", {"1.mat": mat_bytes()}, zipfile.ZIP_STORED))
    (src / "a.zip").write_bytes(content[: len(content) // 2])
    assert f"{src / 'a.zip'} is not a readable zip archive" in refusal(src, tmp_path / "out")
    content[1000] ^= 0xFF
    (src / "a.zip").write_bytes(content)
    assert f"{src / 'a.zip'}/1.mat can't be unpacked (Bad CRC-32" in refusal(src, tmp_path / "out")


def test_two_members_of_one_name_are_refused(src: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of what the test is about
        with zipfile.ZipFile(src / "a.zip", "w") as archive:
            archive.writestr("1.mat", mat_bytes())
            archive.writestr("1.mat", mat_bytes(pid="2"))
    assert "slice 1 is in" in refusal(src, tmp_path / "out")
