"""Slices are decoded once, whoever asks, and anew when they have changed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk
from PIL import Image

from brainseg.classes import BINARY, Labels
from brainseg.config import DataConfig
from brainseg.data import cache
from brainseg.data.cache import load_slices
from brainseg.data.folder import FolderSource
from brainseg.errors import DataError, DiskError

IDS = ("a", "b", "c")


def data_in(root, size=8, **keys):
    return DataConfig(name="folder", root=str(root), channels="grey", image_size=size, **keys)


def source_in(root):
    return FolderSource(data_in(root))


def resize_image(image, size):
    """(height, width) to (size, size)."""
    return cache.resize_image(image[..., np.newaxis], (size, size))[..., 0]


def resize_mask(mask, size):
    """(height, width) to (size, size)."""
    return cache.resize_mask(mask[..., np.newaxis], (size, size), BINARY)[..., 0]


class CountingSource:
    """A folder that counts how often a slice is read."""

    def __init__(self, root):
        self._folder = source_in(root)
        self.name, self.location, self.labels = self._folder.name, self._folder.location, BINARY
        self.reads = 0

    def slices(self):
        return self._folder.slices()

    def read(self, slice_id):
        self.reads += 1
        return self._folder.read(slice_id)

    def stamp(self):
        return self._folder.stamp()


@pytest.fixture
def pixels(folder):
    """A folder of three slices of noise."""
    for slice_id in IDS:
        folder.add(slice_id)
    return folder


def load(root, cache_dir, size=8, **keys):
    return load_slices(source_in(root), data_in(root, size), cache_dir=cache_dir, **keys)


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def entries(cache_dir):
    return [path.name for path in cache_dir.iterdir() if path.is_dir()]


def test_arrays_hold_every_slice_in_the_order_of_ids(pixels, tmp_path):
    slices = load(pixels.root, tmp_path / "cache")
    assert [item.id for item in slices.slices] == list(IDS)
    assert slices.images.shape == slices.masks.shape == (3, 8, 8, 1)
    source = source_in(pixels.root)
    for position, slice_id in enumerate(IDS):
        image, mask = source.read(slice_id)
        np.testing.assert_array_equal(slices.images[position], cache.resize_image(image, (8, 8)))
        np.testing.assert_array_equal(slices.masks[position], cache.resize_mask(mask, (8, 8), BINARY))
    np.testing.assert_array_equal(slices.positions(["c", "a"]), [2, 0])


def test_the_stored_sizes_are_kept(pixels, tmp_path):
    pixels.add("a", image=np.zeros((5, 9), np.uint8), mask=np.zeros((5, 9), np.uint8))
    for _ in range(2):  # decoded, then from the cache
        np.testing.assert_array_equal(load(pixels.root, tmp_path / "cache").sizes, [[5, 9], [24, 20], [24, 20]])


def test_an_entry_of_an_older_brainseg_gets_the_sizes(pixels, tmp_path):
    cache = tmp_path / "cache"
    before = load(pixels.root, cache)
    (entry,) = entries(cache)
    (cache / entry / "sizes.npy").unlink()
    next(cache.glob("*.stamp")).unlink()  # an older stamp has another name
    np.testing.assert_array_equal(load(pixels.root, cache).sizes, before.sizes)
    assert entries(cache) == [entry]


def test_arrays_are_mapped_from_disk_and_read_only(pixels, tmp_path):
    slices = load(pixels.root, tmp_path / "cache")
    for array in (slices.images, slices.masks):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.uint8
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0, 0] = 1


def test_the_second_load_reads_no_image_file(pixels, tmp_path):
    source = CountingSource(pixels.root)
    first = load_slices(source, data_in(pixels.root), cache_dir=tmp_path / "cache")
    assert source.reads == 3
    second = load_slices(source, data_in(pixels.root), cache_dir=tmp_path / "cache")
    assert source.reads == 3
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.images, second.images)


def test_another_size_has_the_same_fingerprint_and_an_entry_of_its_own(pixels, tmp_path):
    small, large = load(pixels.root, tmp_path / "cache", 8), load(pixels.root, tmp_path / "cache", 16)
    assert small.fingerprint == large.fingerprint
    assert large.images.shape == (3, 16, 16, 1)
    assert len(entries(tmp_path / "cache")) == 2


def test_one_changed_pixel_is_noticed(pixels, tmp_path):
    before = load(pixels.root, tmp_path / "cache", 24)
    path = pixels.root / "images" / "b.png"
    image = np.array(Image.open(path))
    image[0, 0] ^= 1
    pixels.add("b", image=image)
    os.utime(path, ns=(0, 10**18))  # some file systems keep whole seconds alone
    after = load(pixels.root, tmp_path / "cache", 24)
    assert after.fingerprint != before.fingerprint
    changed = np.flatnonzero((np.asarray(after.images) != np.asarray(before.images)).any(axis=(1, 2, 3)))
    assert changed.tolist() == [1]


def test_the_same_pixels_in_another_folder_share_the_entry(pixels, tmp_path):
    shutil.copytree(pixels.root, tmp_path / "copy")
    first, second = load(pixels.root, tmp_path / "cache"), load(tmp_path / "copy", tmp_path / "cache")
    assert first.fingerprint == second.fingerprint
    assert first.images.filename == second.images.filename
    assert len(entries(tmp_path / "cache")) == 1


def test_nothing_but_the_entry_and_its_stamp_stays(pixels, tmp_path):
    load(pixels.root, tmp_path / "cache")
    names = sorted(Path(name).suffix or "entry" for name in os.listdir(tmp_path / "cache"))
    assert names == [".stamp", "entry"]


def test_a_slice_that_cant_be_decoded_leaves_nothing_behind(pixels, tmp_path):
    (pixels.root / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    with pytest.raises(DataError, match=r"b\.png"):
        load(pixels.root, tmp_path / "new" / "cache")
    assert not (tmp_path / "new").exists()


def test_a_slice_that_cant_be_decoded_leaves_what_others_have_in_the_cache(pixels, tmp_path):
    cache = tmp_path / "cache"
    load(pixels.root, cache)
    (cache / "other.lock").touch()  # a process that decodes another set
    before = everything_in(cache)
    (pixels.root / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    with pytest.raises(DataError, match=r"b\.png"):
        load(pixels.root, cache)
    assert everything_in(cache) == before


def test_a_cache_that_cant_be_written_names_the_key_and_the_reason(pixels, tmp_path):
    (tmp_path / "file").touch()  # below a file nothing can be made, not even by root
    with pytest.raises(DataError, match=r"can't be written to .*/file/cache \(.+\); .*data\.cache_dir") as failure:
        load(pixels.root, tmp_path / "file" / "cache")
    assert "\n" not in str(failure.value)


@pytest.mark.heavy
def test_a_full_disk_is_an_error_of_one_line_and_leaves_nothing(pixels, tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(DiskError, match=r"\(No space left on device\); make room there"):
            load(pixels.root, disk / "cache", 512)
        assert DiskError.exit_code == 1  # nothing that was typed is wrong
        assert everything_in(disk) == []


def test_the_folder_of_a_killed_builder_is_replaced(pixels, tmp_path):
    cache = tmp_path / "cache"
    expected = np.array(load(pixels.root, cache).images)
    stamp = next(cache.glob("*.stamp"))
    building = stamp.with_suffix(".building")
    shutil.rmtree(cache / stamp.read_text())
    building.mkdir()
    (building / "images.npy").write_bytes(b"half")
    stamp.with_suffix(".lock").touch()  # the kernel has released it
    np.testing.assert_array_equal(load(pixels.root, cache).images, expected)
    assert not building.exists()


BUILD = """
import hashlib, sys, time
from pathlib import Path
from brainseg.config import DataConfig
from brainseg.data.cache import load_slices
from brainseg.data.phantom.source import PhantomSource
print("ready", flush=True)
sys.stdin.readline()
data = DataConfig(channels="grey", image_size=32)
slices = load_slices(PhantomSource(patients=4, seed=1), data, cache_dir=Path(sys.argv[1]))
print(slices.fingerprint, hashlib.sha256(slices.images).hexdigest(), hashlib.sha256(slices.masks).hexdigest())
"""


@pytest.mark.heavy
def test_processes_that_build_at_once_end_with_one_entry_and_the_same_arrays(tmp_path):
    command = [sys.executable, "-c", BUILD, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(answers)) == 1
    assert len(answers[0].split()) == 3
    assert sorted(Path(name).suffix or "entry" for name in os.listdir(tmp_path / "cache")) == [".stamp", "entry"]


def test_an_image_shrinks_to_the_means_of_its_areas():
    image = np.array([[0, 4, 10, 10], [8, 4, 10, 30], [1, 1, 0, 0], [1, 1, 0, 255]], np.uint8)
    # Means 4, 15, 1 and 63.75, rounded.
    np.testing.assert_array_equal(resize_image(image, 2), [[4, 15], [1, 64]])


def test_an_image_grows_by_bilinear_interpolation():
    image = np.array([[0, 100]], np.uint8).repeat(2, axis=0)
    # Half-pixel centres: 1/4 and 3/4 of the way between the two.
    np.testing.assert_array_equal(resize_image(image, 4), [[0, 25, 75, 100]] * 4)


def test_a_mask_pixel_is_tumour_where_half_of_it_is_covered():
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]], np.uint8)
    # Covered to 2/4, 1/4, 3/4 and 0.
    np.testing.assert_array_equal(resize_mask(mask, 2), [[1, 0], [1, 0]])


def test_a_pixel_takes_the_class_that_covers_the_largest_part_of_it():
    # Four blocks of 4x4 pixels, each of which becomes one: counts of (background, 1, 2, ignored).
    blocks = np.zeros((8, 8), np.uint8)
    blocks[:2, :4] = 1  # 8, 8, 0, 0: of equal parts the class, not the background
    blocks[:3, 4:6], blocks[:4, 6:] = 1, 2  # 2, 6, 8, 0
    blocks[4:, :4] = 255  # 0, 0, 0, 16
    blocks[4, 4:], blocks[5, 4:6] = 1, 2  # 10, 4, 2, 0
    labels = Labels(names=("a", "b"), exclusive=True, has_ignored=True)
    padded = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)[..., np.newaxis]  # 64 by 64, for a size of 8
    found = cache.resize_mask(padded, (8, 8), labels)[..., 0]
    np.testing.assert_array_equal(found, blocks)  # one value each
    quarter = cache.resize_mask(blocks[..., np.newaxis], (2, 2), labels)[..., 0]
    assert quarter.tolist() == [[1, 2], [255, 0]]


def test_overlapping_classes_are_resized_each_by_itself():
    mask = np.zeros((4, 4, 2), np.uint8)
    mask[:2, :, 0] = 1  # half of all
    mask[0, :3, 1] = 1  # three of sixteen
    labels = Labels(names=("whole", "core"), exclusive=False)
    assert cache.resize_mask(mask, (1, 1), labels).tolist() == [[[1, 0]]]


def test_a_slice_of_the_right_size_keeps_its_pixels():
    image = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(resize_image(image, 16), image)
    np.testing.assert_array_equal(resize_mask(image % 2, 16), image % 2)


@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_a_mask_is_the_mean_of_its_blocks_wherever_its_foreground_lies(times):
    mask = (np.random.default_rng(times).random((5 * times, 5 * times)) < 0.5).astype(np.uint8)
    mask[: 2 * times], mask[:, -times:] = 0, 0
    expected = mask.reshape(5, times, 5, times).mean(axis=(1, 3)) >= 0.5
    assert expected.any()
    np.testing.assert_array_equal(resize_mask(mask, 5), expected)


def test_a_slice_that_is_not_square_is_squeezed():
    image = np.array([[0, 10, 20, 30], [40, 50, 60, 70]], np.uint8)
    np.testing.assert_array_equal(resize_image(image, 2), [[5, 25], [45, 65]])


def test_the_fingerprint_is_of_ids_and_pixels_at_their_stored_size(pixels, tmp_path):
    source = source_in(pixels.root)
    whole = hashlib.sha256()
    for slice_id in IDS:
        image, mask = source.read(slice_id)
        height, width, _ = image.shape  # of one channel it is two-dimensional
        digest = hashlib.sha256(f"{slice_id} {(height, width)} {(height, width)}".encode())
        digest.update(image.tobytes() + mask.tobytes())
        whole.update(digest.digest())
    assert load(pixels.root, tmp_path / "cache").fingerprint == whole.hexdigest()


def sound(root, cache_dir):
    """The slices, which must be right, and the notes on them."""
    slices = load(root, cache_dir)
    source = source_in(root)
    for position, slice_id in enumerate(IDS):
        image, mask = source.read(slice_id)
        np.testing.assert_array_equal(slices.images[position], cache.resize_image(image, (8, 8)))
        np.testing.assert_array_equal(slices.masks[position], cache.resize_mask(mask, (8, 8), BINARY))
    return slices.notes


def flip_a_byte(entry):
    content = bytearray((entry / "images.npy").read_bytes())
    content[-5] ^= 1
    (entry / "images.npy").write_bytes(content)


def cut_off(entry):
    (entry / "masks.npy").write_bytes((entry / "masks.npy").read_bytes()[:-1])


def put_another_array_there(entry):
    np.save(entry / "images.npy", np.zeros((2, 8, 8, 1), np.uint8))


def lose_the_sizes(entry):
    (entry / "sizes.npy").unlink()


def spoil_the_header(entry):
    (entry / "sizes.npy").write_bytes(b"no array" * 30)


def spoil_the_description(entry):
    (entry / "entry.json").write_text("{")


def describe_another_entry(entry):
    known = json.loads((entry / "entry.json").read_text())
    (entry / "entry.json").write_text(json.dumps(known | {"fingerprint": "0" * 64}))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut_off,
        put_another_array_there,
        lose_the_sizes,
        spoil_the_header,
        spoil_the_description,
        describe_another_entry,
    ],
)
def test_a_damaged_entry_is_decoded_anew_with_a_note(pixels, tmp_path, damage):
    assert sound(pixels.root, tmp_path / "cache") == ()
    (name,) = entries(tmp_path / "cache")
    entry = tmp_path / "cache" / name
    damage(entry)
    os.utime(entry / "images.npy", ns=(0, 10**18))  # some file systems keep whole seconds alone
    (note,) = sound(pixels.root, tmp_path / "cache")
    assert note.startswith(f"the cache's {entry} is damaged (")
    assert note.endswith("); its slices were decoded anew")
    assert "\n" not in note
    assert sound(pixels.root, tmp_path / "cache") == ()
    assert entries(tmp_path / "cache") == [name]


def test_an_entry_that_was_copied_is_checked_once_and_kept(pixels, tmp_path):
    load(pixels.root, tmp_path / "cache")
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")  # other inodes
    source = CountingSource(pixels.root)
    for _ in range(2):
        assert load_slices(source, data_in(pixels.root), cache_dir=tmp_path / "copy").notes == ()
    assert source.reads == 0
    (entry,) = (path for path in (tmp_path / "copy").iterdir() if path.is_dir())
    noted = json.loads((entry / "entry.json").read_text())["states"]["images.npy"]
    assert noted[2] == (entry / "images.npy").stat().st_ino


def test_an_entry_without_digests_is_used_as_it_is(pixels, tmp_path):
    fingerprint = load(pixels.root, tmp_path / "cache").fingerprint
    (name,) = entries(tmp_path / "cache")
    entry = {"schema_version": 2, "fingerprint": fingerprint}  # all that version 0.1 wrote
    (tmp_path / "cache" / name / "entry.json").write_text(json.dumps(entry))
    source = CountingSource(pixels.root)
    assert load_slices(source, data_in(pixels.root), cache_dir=tmp_path / "cache").fingerprint == fingerprint
    assert source.reads == 0


@pytest.mark.parametrize("text", ["../elsewhere", "", "\xff"])
def test_a_damaged_stamp_leads_nowhere(pixels, tmp_path, text):
    load(pixels.root, tmp_path / "cache")
    next((tmp_path / "cache").glob("*.stamp")).write_bytes(text.encode("latin-1"))
    assert sound(pixels.root, tmp_path / "cache") == ()


def test_masks_that_resizing_empties_are_counted_with_the_size_that_keeps_them(folder, tmp_path):
    line = np.zeros((64, 64), np.uint8)
    line[20:22] = 255  # two of 64 rows: half of a row of 16 pixels a side, a quarter of one of 8
    block = np.zeros((64, 64), np.uint8)
    block[:16] = 255
    for slice_id, mask in {"1": block, "2": line, "3": line * 0, "4": line}.items():
        folder.add(slice_id, image=mask, mask=mask)
    note = "resizing to 8x8 empties 2 of 3 masks with foreground, first: 2; data.image_size=16 keeps them"
    for _ in range(2):  # decoded, then from the cache
        assert load(folder.root, tmp_path / "cache", 8).notes == (note,)
    kept = load(folder.root, tmp_path / "cache", 16)
    assert (kept.notes, kept.masks[1].any()) == ((), True)


def test_a_set_without_any_foreground_can_be_scored_but_not_trained_on(folder, tmp_path):
    folder.add("1", mask=np.zeros((24, 20), np.uint8))
    refused = r"set: no mask of the set holds any foreground, .*; write 255 for foreground and 0 for background"
    with pytest.raises(DataError, match=refused):
        load(folder.root, tmp_path / "cache", needs_foreground=True)
    assert not (tmp_path / "cache").exists()
    assert not load(folder.root, tmp_path / "cache").masks.any()
    with pytest.raises(DataError, match=refused):
        load(folder.root, tmp_path / "cache", needs_foreground=True)


def test_slices_of_a_height_and_a_width_are_an_entry_of_their_own(folder, tmp_path):
    folder.add("1")
    found = load_slices(source_in(folder.root), data_in(folder.root, size=[8, 16]), cache_dir=tmp_path / "cache")
    image, mask = found.source.read("1")
    assert (found.images.shape, found.masks.shape) == ((1, 8, 16, 1), (1, 8, 16, 1))
    np.testing.assert_array_equal(found.images[0], cache.resize_image(image, (8, 16)))
    np.testing.assert_array_equal(found.masks[0], cache.resize_mask(mask, (8, 16), BINARY))
    assert [path.name for path in (tmp_path / "cache").glob("*-*")] == [f"{found.fingerprint[:16]}-8x16"]


def test_slices_for_patches_are_kept_at_their_stored_size(folder, tmp_path):
    folder.add("1")
    folder.add("2", image=np.full((9, 33), 7, np.uint8), mask=np.full((9, 33), 255, np.uint8))
    cached = tmp_path / "cache"
    found = load_slices(source_in(folder.root), data_in(folder.root, patches=4), cache_dir=cached)
    for position, slice_id in enumerate(["1", "2"]):
        image, mask = found.source.read(slice_id)
        np.testing.assert_array_equal(found.images[position], image)
        np.testing.assert_array_equal(found.masks[position], mask)
    assert found.fingerprint == load(folder.root, cached).fingerprint
    assert {path.name[16:] for path in cached.glob("*-*")} == {"-stored", "-8"}
    counting = CountingSource(folder.root)
    load_slices(counting, data_in(folder.root, size=16, patches=2), cache_dir=cached)
    assert counting.reads == 0


def test_a_damaged_entry_of_stored_slices_is_decoded_anew(folder, tmp_path):
    folder.add("1")
    cached, data = tmp_path / "cache", data_in(folder.root, patches=4)
    load_slices(source_in(folder.root), data, cache_dir=cached)
    path = next(cached.glob("*-stored")) / "images.npy"
    path.write_bytes(path.read_bytes()[:-3])
    found = load_slices(source_in(folder.root), data, cache_dir=cached)
    assert [note.split(" (")[0] for note in found.notes] == [f"the cache's {path.parent} is damaged"]
    np.testing.assert_array_equal(found.images[0], found.source.read("1")[0])
