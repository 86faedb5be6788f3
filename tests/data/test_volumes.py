"""Volumes of NIfTI as a set of slices."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_volumes import write_volume
from nibabel import Nifti1Image
from numpy.typing import NDArray

import brainseg.data.volumes.volume
from brainseg.compose import freeze
from brainseg.config import DataConfig
from brainseg.data.__main__ import main
from brainseg.data.cache import load_slices
from brainseg.data.folder import FolderSource
from brainseg.data.volumes.volume import read_mask_volume
from brainseg.errors import ConfigError, DataError, InputError

VALUES = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)


def block(shape: tuple[int, ...] = VALUES.shape, value: int = 1) -> NDArray[np.uint8]:
    """A mask: 2 x 3 x 3 voxels from (1, 1, 1) on."""
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 1:4, 1:4] = value
    return mask


def source_of(root: Path, **keys: Any) -> FolderSource:
    return FolderSource(DataConfig(name="nifti", root=str(root), **({"channels": "grey"} | keys)))


def add(root: Path, case: str = "p1", values: NDArray[Any] = VALUES, **header: Any) -> None:
    write_volume(root / case / "t2.nii.gz", values, **header)
    write_volume(root / case / "t2_mask.nii.gz", block(values.shape[:3]), **header)


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises(DataError) as caught:
        source_of(root, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spacing", "chosen", "axis"),
    [((3, 1, 1), None, 0), ((1, 3, 1), None, 1), ((2, 1, 2.0001), None, 2), ((1, 1, 1), None, 2), ((3, 1, 1), 1, 1)],
)
@pytest.mark.parametrize("axes", ["RAS", "PSR", "LIA"])
def test_slices_lie_along_the_coarsest_axis_and_are_never_turned(
    spacing: tuple[float, ...], chosen: int | None, axis: int, axes: str, tmp_path: Path
) -> None:
    add(tmp_path, axes=axes, spacing=spacing)
    source = source_of(tmp_path, axis=chosen)
    assert [info.id for info in source.slices()] == [f"t2_slice{number:03}" for number in range(VALUES.shape[axis])]
    for number, info in enumerate(source.slices()):
        image, mask = source.read(info.id)
        assert (image[..., 0] == VALUES.take(number, axis)).all()
        assert (mask[..., 0] == block().take(number, axis)).all()


def test_a_volume_is_a_patient_unless_a_pattern_or_a_table_says_whose_it_is(tmp_path: Path) -> None:
    for case in ("a", "b"):
        write_volume(tmp_path / "imagesTr" / f"{case}_0000.nii.gz", VALUES)
        write_volume(tmp_path / "labelsTr" / f"{case}.nii.gz", block())
    assert {info.columns["patient_id"] for info in source_of(tmp_path).slices()} == {"a", "b"}
    (tmp_path / "metadata.csv").write_text("id,patient_id,tumor_type\na,P1,glioma\nb,P1,\n")
    first, *_, last = source_of(tmp_path).slices()
    assert first.columns == {"patient_id": "P1", "tumor_type": "glioma"}
    assert last.columns == {"patient_id": "P1"}


def test_volumes_of_one_name_get_that_of_their_folder(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        add(tmp_path, case)
    first, *_, last = source_of(tmp_path).slices()
    assert (first.id, first.columns) == ("p1_t2_slice000", {"patient_id": "p1"})
    assert (last.id, last.columns) == ("p2_t2_slice005", {"patient_id": "p2"})


def test_a_folder_can_name_its_volume(tmp_path: Path) -> None:
    write_volume(tmp_path / "case7" / "image.nii", VALUES)
    write_volume(tmp_path / "case7" / "label.nii.gz", block())
    source = source_of(tmp_path, images="{id}/image.nii", masks="{id}/label.nii.gz")
    assert source.slices()[0].id == "case7_slice000"


def test_a_volume_that_was_made_from_another_is_left_out_and_said(tmp_path: Path) -> None:
    add(tmp_path)
    write_volume(tmp_path / "p1" / "t2_labels.nii.gz", block(value=7))
    source = source_of(tmp_path)
    assert len(source.slices()) == 6
    assert any("first: p1/t2_labels.nii.gz; they are left out" in note for note in source.notes)
    write_volume(tmp_path / "p1" / "t1.nii.gz", VALUES)
    assert "1 image(s) without a mask, first: p1/t1.nii.gz" in refusal(tmp_path)


def test_grey_levels_are_those_of_the_whole_volume(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), np.int16)
    values[..., 1], values[..., 2] = -1000, 1000  # 20 of 120 voxels each: beyond the percentiles
    add(tmp_path, values=values)
    levels = [int(source_of(tmp_path).read(f"t2_slice{number:03}")[0].max()) for number in range(3)]
    assert levels == [128, 0, 255]
    window = [int(source_of(tmp_path, window=[0, 4000]).read(f"t2_slice{number:03}")[0].max()) for number in range(3)]
    assert window == [0, 0, 64]


def test_slope_and_intercept_of_the_header_count(tmp_path: Path) -> None:
    add(tmp_path)
    write_volume(tmp_path / "p1" / "t2.nii.gz", VALUES.astype(np.int16), scaling=(10.0, -100.0))
    image, _ = source_of(tmp_path, window=[-100, 1175]).read("t2_slice000")
    assert VALUES[3, 4, 0] == 114
    assert image[3, 4, 0] == 228  # 1140 of 1275


def test_channels_are_files_or_a_fourth_axis(tmp_path: Path) -> None:
    both = np.stack([VALUES, VALUES + 100], axis=-1)
    add(tmp_path / "whole", values=both)
    told = refusal(tmp_path / "whole")
    assert told.endswith("fourth axis, got 2; name them all by data.channels=[NAME,...]; copy or export them again")
    for name, values in (("flair", VALUES), ("t1", VALUES + 100)):
        write_volume(tmp_path / "each" / "p1" / f"t2_{name}.nii.gz", values)
    write_volume(tmp_path / "each" / "p1" / "t2_mask.nii.gz", block())
    for folder in ("whole", "each"):
        image, _ = source_of(tmp_path / folder, channels=["flair", "t1"]).read("t2_slice003")
        assert (image == both[:, :, 3]).all()


def test_classes_and_channels_are_those_of_nnunet(tmp_path: Path) -> None:
    for channel, values in (("0000", VALUES), ("0001", VALUES + 1)):
        write_volume(tmp_path / "imagesTr" / f"a_{channel}.nii.gz", values)
    write_volume(tmp_path / "labelsTr" / "a.nii.gz", block(value=2))
    names = {"labels": {"background": 0, "liver": 1, "tumour": 2}, "channel_names": {"0": "T1", "1": "T2"}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    source = FolderSource(DataConfig(name="nifti", root=str(tmp_path)))
    assert source.labels.names == ("liver", "tumour")
    image, mask = source.read("a_slice001")
    assert image.shape == (4, 5, 2)
    assert sorted(np.unique(mask)) == [0, 2]


def test_channels_along_a_fourth_axis_are_named_by_dataset_json(tmp_path: Path) -> None:
    write_volume(tmp_path / "imagesTr" / "a.nii.gz", np.stack([VALUES, VALUES + 1], axis=-1))
    write_volume(tmp_path / "labelsTr" / "a.nii.gz", block())
    names = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "FLAIR", "1": "T1w"}}
    (tmp_path / "dataset.json").write_text(json.dumps(names))
    source = FolderSource(DataConfig(name="nifti", root=str(tmp_path)))
    assert source.data.channels == ("FLAIR", "T1w")
    assert source.read("a_slice001")[0].shape == (4, 5, 2)


def test_a_json_file_beside_a_volume_holds_no_annotations(tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / "p1" / "t2.json").write_text(json.dumps({"shapes": [], "imagePath": "t2.nii.gz", "EchoTime": 0.1}))
    assert len(source_of(tmp_path).slices()) == 6


def test_patches_are_cut_from_slices_as_they_are_stored(tmp_path: Path) -> None:
    add(tmp_path, axes="PSR")
    data = DataConfig(name="nifti", root=str(tmp_path), channels="grey", image_size=8, patches=2)
    slices = load_slices(FolderSource(data), data, cache_dir=tmp_path / "cache")
    assert (slices.images[3][..., 0] == VALUES[:, :, 3]).all()
    assert slices.sizes.tolist() == [[4, 5]] * 6


def test_what_masks_hold_is_decided_for_the_set(tmp_path: Path) -> None:
    add(tmp_path, "p1")
    add(tmp_path, "p2")
    write_volume(tmp_path / "p2" / "t2_mask.nii.gz", block(value=2).astype(np.float64))
    with pytest.raises(DataError, match=r"values 1 \(in 1\), 2 \(in 1\) of 2 files; name them: 'data.classes="):
        source_of(tmp_path).read("p1_t2_slice001")
    _, mask = source_of(tmp_path, classes={"one": 1, "two": 2}).read("p2_t2_slice001")
    assert mask.max() == 2


def test_each_volume_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, "p1")
    add(tmp_path, "p2")
    read = []
    original = brainseg.data.volumes.volume.read_values

    def counting(path: Path) -> NDArray[Any]:
        read.append(path.relative_to(tmp_path).as_posix())
        return original(path)

    monkeypatch.setattr(brainseg.data.volumes.volume, "read_values", counting)
    data = DataConfig(name="nifti", root=str(tmp_path), channels="grey", image_size=8, classes={"x": 1})
    slices = load_slices(FolderSource(data), data, cache_dir=tmp_path / "cache")
    assert len(slices.slices) == 12
    assert slices.notes == ("6 of 12 slices have no foreground; they are used as they are, with empty masks",)
    assert sorted(read) == ["p1/t2.nii.gz", "p1/t2_mask.nii.gz", "p2/t2.nii.gz", "p2/t2_mask.nii.gz"]


def test_the_stamp_changes_with_the_axis(tmp_path: Path) -> None:
    add(tmp_path)
    assert source_of(tmp_path).stamp() == source_of(tmp_path).stamp() != source_of(tmp_path, axis=0).stamp()


def test_a_mask_must_lie_on_its_image(tmp_path: Path) -> None:
    add(tmp_path)
    write_volume(tmp_path / "p1" / "t2_mask.nii.gz", block((4, 5, 7)))
    assert "first: p1/t2_mask.nii.gz: 4x5x7, image 4x5x6" in refusal(tmp_path)
    write_volume(tmp_path / "p1" / "t2_mask.nii.gz", block(), axes="LAS")
    assert "first: p1/t2_mask.nii.gz: 6.0 voxels from p1/t2.nii.gz" in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"text", gzip.compress(b"text"), gzip.compress(bytes(400))],
    ids=["empty", "text", "compressed text", "compressed zeros"],  # gzip writes the time
)
def test_a_file_that_is_no_volume_is_one_line(content: bytes, tmp_path: Path) -> None:
    add(tmp_path)
    (tmp_path / "p1" / "t2.nii.gz").write_bytes(content)
    assert "1 file(s) that can't be read, first: p1/t2.nii.gz is no NIfTI file, damaged or cut off" in refusal(tmp_path)


@pytest.mark.parametrize("kind", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]], ids=["complex", "colours"])
def test_a_mask_of_other_values_than_numbers_is_one_line(kind: Any, tmp_path: Path) -> None:
    path = tmp_path / "mask.nii"
    Nifti1Image(np.zeros((3, 4, 5), np.dtype(kind)), np.eye(4)).to_filename(path)
    with pytest.raises(
        DataError, match=r"mask.nii must be a volume of numbers with three or four axes, got .*; export"
    ):
        read_mask_volume(path)


def test_a_volume_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 1000, (20, 30, 40)).astype(np.int16)
    add(tmp_path, values=values)
    path = tmp_path / "p1" / "t2.nii.gz"
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"t2.nii.gz is no NIfTI file, damaged or cut off \(.*\); copy or export"):
        source_of(tmp_path).read("t2_slice000")


def test_voxel_sizes_and_orientations_that_differ_are_said(tmp_path: Path) -> None:
    add(tmp_path, "p1", spacing=(1, 1, 3))
    add(tmp_path, "p2", spacing=(1, 1, 4.5))
    assert not any("mm" in note for note in source_of(tmp_path).notes)
    add(tmp_path, "p3", spacing=(0.6, 0.6, 4.6), axes="LAS")
    said = "\n".join(source_of(tmp_path).notes)
    assert "2 voxel side(s)" in said
    assert "first: between slices 3 mm (p1_t2) to 4.6 mm (p3_t2)" in said
    assert "first: p3_t2: LAS, cut along axis 2 (most: RAS, cut along axis 2)" in said


def test_nibabel_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"^NIfTI files are read by nibabel; pip install '\.\[nifti\]' in "):
        source_of(tmp_path)


def test_keys_of_volumes_are_refused_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.axis has no use with the chosen data"):
        freeze(["data=folder", "data.root=x", "data.axis=1"])
    with pytest.raises(ConfigError, match=r"data\.annotations must be masks or null for data\.name=nifti"):
        freeze(["data=nifti", "data.root=x", "data.annotations=coco.json"])
    with pytest.raises(ConfigError, match=r"add data\.root=DIR"):
        freeze(["data=nifti"])


def verified(root: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, dict[str, Any]]:
    """The exit code of the command, and its report: check -> items in the place of the findings."""
    code = main(["verify", str(root), "data=nifti", *overrides, "--json"])
    report = json.loads(capsys.readouterr().out)
    report["findings"] = {each["check"]: each["items"] for each in report["findings"]}
    return code, report


def test_verify_tells_what_volumes_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(tmp_path, "p1")
    add(tmp_path, "p2", VALUES[:, ::-1])
    code, report = verified(tmp_path, capsys)
    assert code == 0
    assert report["layout"] == "2 volumes, a folder per patient"
    assert (report["slices"], report["patient_ids"], report["sizes"]) == (12, 2, {"5x4": 12})
    assert report["values"] == {"0": 2, "1": 2}
    assert report["classes"] == {"foreground": 18 / 120}
    assert report["foreground_fraction"] == {"min": 0.0, "median": 0.15, "max": 0.3}
    assert report["findings"] == {
        "empty_mask": [f"p{case}_t2_slice00{number}" for case in (1, 2) for number in (0, 4, 5)]
    }


def test_verify_finds_what_is_wrong_with_each_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in ("p1", "p2", "p3", "p4", "p5"):
        add(tmp_path, case, spacing=(1, 1, 3))
    add(tmp_path, "p6", np.zeros_like(VALUES), spacing=(1, 2, 3))
    write_volume(tmp_path / "p2" / "t2_mask.nii.gz", block((4, 5, 7)), spacing=(1, 1, 3))
    write_volume(tmp_path / "p3" / "t2_mask.nii.gz", block(), spacing=(1, 1, 3), axes="RAI")
    (tmp_path / "p4" / "t2_mask.nii.gz").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 1000, (30, 30, 30)).astype(np.int16)
    add(tmp_path, "p7", noise, spacing=(1, 1, 3))
    cut = tmp_path / "p7" / "t2.nii.gz"
    cut.write_bytes(cut.read_bytes()[:20_000])
    code, report = verified(tmp_path, capsys)
    assert code == 1
    found = report["findings"]
    unreadable = found.pop("unreadable_file")
    assert [item.partition(" ")[0] for item in unreadable] == ["p4/t2_mask.nii.gz", "p7/t2.nii.gz"]
    del found["empty_mask"]
    assert found == {
        "size_mismatch": ["p2/t2_mask.nii.gz: 4x5x7, image 4x5x6"],
        "mask_elsewhere": ["p3/t2_mask.nii.gz: 30.0 voxels from p3/t2.nii.gz"],
        "voxel_sizes": ["within slices 1 mm (p1_t2) to 2 mm (p6_t2)"],
        "constant_image": ["p6/t2.nii.gz"],
        "equal_slices": ["p1_t2 = p5_t2"],
    }


def test_verify_says_once_that_masks_hold_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case, value in (("p1", 1), ("p2", 2)):
        write_volume(tmp_path / case / "t2.nii.gz", VALUES + np.uint8(value))
        write_volume(tmp_path / case / "t2_mask.nii.gz", block(value=value))
    code, report = verified(tmp_path, capsys)
    (item,) = report["findings"]["mask_not_binary"]
    assert (code, "name them: 'data.classes={class1: 1, class2: 2}'" in item) == (1, True)
    code, report = verified(tmp_path, capsys, "data.classes={one: 1}")
    assert report["findings"]["mask_not_of_classes"][0].startswith("p2/t2_mask.nii.gz holds 2, which data.classes")
    code, report = verified(tmp_path, capsys, "data.classes={one: 1, two: 2, three: 3}")
    assert (code, report["findings"]["absent_class"]) == (0, ["three"])
