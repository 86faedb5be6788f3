"""The data of a run: what `auto` stands for, and what is remembered of it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainseg.config import DataConfig, RunConfig
from brainseg.data import folder as folder_module
from brainseg.data.folder import FolderSource
from brainseg.data.load import load_data, source_of_folder
from brainseg.errors import DataError

Loading = Callable[..., RunConfig]


@pytest.fixture
def config(folder: Any, tiny: Loading, tmp_path: Path) -> Loading:
    """Makes the configuration of a run on the folder, with its own cache."""

    def make(**data: Any) -> RunConfig:
        own = {"name": "folder", "root": str(folder.root), "split_by": "image", "image_size": 32, **data}
        return tiny(
            **{f"data.{key}": value for key, value in own.items()},
            **{"data.cache_dir": str(tmp_path / "cache"), "model.depth": 1, "data.limit": None},
        )

    return make


def colourful() -> np.ndarray[Any, Any]:
    image = np.full((24, 20, 3), 90, np.uint8)
    image[3, 4] = (90, 120, 90)
    return image


def fill(folder: Any, *, colour: bool) -> None:
    for slice_id in ("1", "2", "3", "4"):
        folder.add(slice_id)
    if colour:
        folder.add("3", image=colourful())


@pytest.mark.parametrize(("colour", "channels", "count"), [(True, "rgb", 3), (False, "grey", 1)])
def test_auto_is_rgb_where_any_image_holds_colour(
    folder: Any, config: Loading, colour: bool, channels: str, count: int
) -> None:
    fill(folder, colour=colour)
    data = load_data(config())
    assert data.config.data.channels == channels
    assert data.slices.images.shape == (4, 32, 32, count)
    assert source_of_folder(folder.root).read("1")[0].shape == (24, 20, count)


@pytest.mark.parametrize("colour", [True, False])
def test_what_auto_stands_for_is_found_out_once(
    folder: Any, config: Loading, monkeypatch: pytest.MonkeyPatch, colour: bool
) -> None:
    fill(folder, colour=colour)
    first = load_data(config())

    def never(*_: object) -> bool:
        raise AssertionError("an image was opened")

    monkeypatch.setattr(folder_module, "holds_colour", never)
    monkeypatch.setattr(FolderSource, "read", never)
    for channels in ("auto", first.config.data.channels):
        again = load_data(config(channels=channels))
        assert again.config.data == first.config.data
        assert again.slices.fingerprint == first.slices.fingerprint


def test_a_new_image_in_colour_changes_what_auto_stands_for(folder: Any, config: Loading) -> None:
    fill(folder, colour=False)
    assert load_data(config()).config.data.channels == "grey"
    folder.add("5", image=colourful())
    assert load_data(config()).config.data.channels == "rgb"


def test_auto_was_grey_in_version_0_1(folder: Any, config: Loading) -> None:
    fill(folder, colour=True)
    assert load_data(config(reading=1)).config.data.channels == "grey"


def test_what_an_image_of_8_bits_in_grey_is_doesnt_depend_on_the_reading(folder: Any, config: Loading) -> None:
    fill(folder, colour=False)
    old, new = (load_data(config(reading=reading)).slices for reading in (1, 2))
    assert old.fingerprint == new.fingerprint
    assert old.images.filename == new.images.filename


def test_the_stamp_of_version_0_1_stays_and_any_other_reading_has_its_own(folder: Any) -> None:
    folder.add("1")
    files = [folder.root / kind / "1.png" for kind in ("images", "masks")]
    digest = hashlib.sha256(b"rules 1\n")
    for path in files:
        state = path.stat()
        digest.update(f"{path.relative_to(folder.root)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())

    def stamp(**keys: Any) -> str:
        return FolderSource(DataConfig(name="folder", root=str(folder.root), **keys)).stamp()

    assert stamp(reading=1, channels="grey") == digest.hexdigest()
    others = [
        stamp(channels="grey"),
        stamp(channels="rgb"),
        stamp(channels="grey", window=[0, 9]),
        stamp(channels="grey", classes={"a": 1}),
        stamp(channels="grey", ignore=3),
    ]
    assert len({digest.hexdigest(), *others}) == 6


def test_a_run_is_told_of_masks_that_resizing_empties(folder: Any, config: Loading) -> None:
    fill(folder, colour=False)
    thin = np.zeros((128, 128), np.uint8)
    thin[40] = 255
    folder.add("5", image=thin, mask=thin)
    assert load_data(config()).notes == (
        "resizing to 32x32 empties 1 of 5 masks with foreground, first: 5; data.image_size=64 keeps them",
    )


def test_a_set_of_empty_masks_is_refused_with_nothing_written(folder: Any, config: Loading, tmp_path: Path) -> None:
    for slice_id in ("1", "2", "3"):
        folder.add(slice_id, mask=np.zeros((24, 20), np.uint8))
    with pytest.raises(DataError, match="no mask of the set holds any foreground"):
        load_data(config())
    assert not (tmp_path / "cache").exists()


@pytest.mark.figshare
def test_the_real_set_has_one_fingerprint_by_either_reading(figshare: Path, tmp_path: Path) -> None:
    def source(**keys: Any) -> FolderSource:
        return source_of_folder(figshare, DataConfig(name="folder", root=str(figshare), **keys))

    new, old = source(), source(reading=1)
    assert old.stamp() == source(reading=1, channels="grey").stamp()
    for item in new.slices()[::100]:
        for mine, theirs in zip(new.read(item.id), old.read(item.id), strict=True):
            np.testing.assert_array_equal(mine, theirs)
