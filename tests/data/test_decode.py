"""What becomes of the depths, colours and damages that image files come with."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brainseg.config import DataConfig
from brainseg.data import decode
from brainseg.data.decode import MaskKind
from brainseg.data.set_masks import SetMasks
from brainseg.errors import DataError

# Luma of pure red, green and blue: 0.299, 0.587 and 0.114 of 255, rounded.
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LUMA = [[76, 150, 29]]


def read_image(path: Path, **keys: Any) -> NDArray[np.uint8]:
    """The one channel of an image in grey, (height, width)."""
    return decode.read_image(path, DataConfig(channels="grey", **keys))[..., 0]


def read_mask(path: Path, **keys: Any) -> NDArray[np.uint8]:
    """The mask of a set of this file alone, (height, width)."""
    return SetMasks(path.parent, [path.name], DataConfig(channels="grey", **keys)).read(path.name)[..., 0]


def mask_kind(values: NDArray[Any]) -> MaskKind:
    levels = decode.levels_of(values)
    return decode.mask_kind(levels, levels.top)


def saved(path: Path, values: Any, dtype: Any = np.uint8, **options: Any) -> Path:
    Image.fromarray(np.array(values, dtype=dtype)).save(path, **options)
    return path


def one_line(read: Any, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path} ")
    assert "\n" not in text
    return text


def colour_png_of_16_bits(path: Path, *, value: int) -> Path:
    """Four pixels of red, green and blue at this value."""
    rows = 2 * (b"\0" + 6 * struct.pack(">H", value))
    parts = (b"IHDR" + struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND")
    written = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    return path


def colour_tiff_of_16_bits(path: Path, *, value: int) -> Path:
    """The same, as a TIFF without compression."""
    tags = [(256, 2), (257, 2), (258, 16), (259, 1), (262, 2), (273, 8), (277, 3), (278, 2), (279, 24)]
    pixels = 12 * struct.pack("<H", value)
    depths_at = 8 + len(pixels)
    entries = [
        struct.pack("<HHII", 258, 3, 3, depths_at) if tag == 258 else struct.pack("<HHII", tag, 4, 1, number)
        for tag, number in tags
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(entries) + struct.pack("<I", 0)
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, depths_at + 6) + pixels + struct.pack("<HHH", 16, 16, 16) + directory
    )
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_of_16_bits_are_refused_and_not_cut_to_8(tmp_path: Path, name: str) -> None:
    # 12 bits in 16: by their upper 8 bits, all that is seen would be 0 to 15 of 255.
    write = colour_png_of_16_bits if name == "a.png" else colour_tiff_of_16_bits
    path = write(tmp_path / name, value=4095)
    for read in (read_image, read_mask):
        assert "several samples of 16 bits a pixel, which aren't read; export 8 bits a sample" in one_line(read, path)
    named = DataConfig(channels=["a", "b", "c"])
    assert "several samples of 16 bits" in one_line(lambda file: decode.read_channels([file], named), path)
    assert read_image(path, reading=1).tolist() == [[15, 15], [15, 15]]  # as version 0.1 did


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_eight_bit_grey_keeps_its_values(tmp_path: Path, name: str) -> None:
    image = read_image(saved(tmp_path / name, [[3, 7, 200], [0, 50, 60]]))
    assert image.dtype == np.uint8
    assert image.tolist() == [[3, 7, 200], [0, 50, 60]]


def test_colours_become_luma(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "rgb.png", [[RED, GREEN, BLUE]])).tolist() == LUMA


def test_a_palette_becomes_luma(tmp_path: Path) -> None:
    indices = Image.fromarray(np.array([[2, 0, 1]], np.uint8))
    indices.putpalette([*GREEN, *BLUE, *RED])
    indices.save(tmp_path / "palette.png", transparency=b"\x00\x80\xff")
    assert read_image(tmp_path / "palette.png").tolist() == LUMA


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_alpha_is_left_out(tmp_path: Path, alpha: int) -> None:
    rgba = saved(tmp_path / "rgba.png", [[(*RED, alpha), (*GREEN, alpha), (*BLUE, alpha)]])
    grey_alpha = tmp_path / "la.png"
    Image.merge("LA", [Image.new("L", (1, 1), 90), Image.new("L", (1, 1), alpha)]).save(grey_alpha)
    assert read_image(rgba).tolist() == LUMA
    assert read_image(grey_alpha).tolist() == [[90]]


@pytest.mark.parametrize(
    ("name", "dtype", "values"),
    [
        ("a.png", np.uint16, [[1100, 1140, 1300]]),
        ("a.tif", np.uint16, [[60_000, 60_040, 60_200]]),
        ("a.tif", np.int32, [[-100, -60, 100]]),
        ("a.tif", np.float32, [[0.5, 0.6, 1.0]]),
    ],
)
def test_deeper_images_are_scaled_from_their_own_range(tmp_path: Path, name: str, dtype: Any, values: Any) -> None:
    # The middle value lies at a fifth of the range: 255 / 5 = 51. The percentiles of three values leave out 1 % of the
    # way to the middle one and to the highest: (40 - 0.4) of (200 - 0.4 - 1.6) becomes 51.
    path = saved(tmp_path / name, values, dtype)
    assert read_image(path, reading=1).tolist() == read_image(path).tolist() == [[0, 51, 255]]


def test_a_hot_pixel_does_not_decide_the_contrast(tmp_path: Path) -> None:
    values = np.repeat(np.arange(1000, 1201, 2), 10).reshape(101, 10)  # 1010 pixels; 5 are half a percent
    values[0, 0] = 65_535
    path = saved(tmp_path / "a.png", values, np.uint16)
    assert read_image(path, reading=1).max(axis=1)[1:].max() == 1  # (1200 - 1000) / 64535 of 255
    image = read_image(path)
    assert [image[row, 0] for row in (0, 1, 20, 100)] == [255, 3, 51, 255]  # from 1000 to 1200


def test_where_nearly_all_pixels_are_equal_the_range_counts(tmp_path: Path) -> None:
    values = np.zeros((20, 20))
    values[0, 0] = 500
    assert read_image(saved(tmp_path / "a.png", values, np.uint16))[0].tolist() == [255, *[0] * 19]


def test_a_window_maps_the_same_values_to_black_and_white_in_every_image(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", [[-1000, -160, 80, 240, 3000]], np.int32)
    assert read_image(path, window=[-160, 240]).tolist() == [[0, 0, 153, 255, 255]]


def test_a_window_leaves_eight_bits_alone(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "a.png", [[3, 7, 200]]), window=[0, 10]).tolist() == [[3, 7, 200]]


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, [[1, 2], [3, 4]]), (3, [[4, 3], [2, 1]]), (6, [[3, 1], [4, 2]]), (8, [[2, 4], [1, 3]])],
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_exif_orientation_turns_images_and_masks_alike(
    tmp_path: Path, name: str, orientation: int, upright: list[list[int]]
) -> None:
    image = saved(tmp_path / name, [[1, 2], [3, 4]], exif=oriented(orientation))
    mask = saved(tmp_path / f"mask_{name}", [[0, 0], [0, 255]], exif=oriented(orientation))
    assert read_image(image).tolist() == upright
    assert read_mask(mask).tolist() == (np.array(upright) == 4).astype(int).tolist()


def test_a_jpeg_of_a_camera_that_was_turned_is_upright(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", np.repeat([[10] * 8, [200] * 8], 8, axis=0), exif=oriented(6))
    assert [read_image(path)[0, 0], read_image(path)[0, -1]] == [200, 10]
    assert read_image(path).shape == (8, 16)
    assert [read_image(path, reading=1)[0, 0], read_image(path, reading=1)[-1, 0]] == [10, 200]


def test_exif_that_cant_be_read_turns_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", np.full((8, 8), 9), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert read_image(path).tolist() == [[9] * 8] * 8


def test_colours_are_kept_as_three_channels(tmp_path: Path) -> None:
    rgb = DataConfig(channels="rgb")
    assert decode.read_image(saved(tmp_path / "a.png", [[RED, GREEN]]), rgb).tolist() == [[[*RED], [*GREEN]]]
    assert decode.read_image(saved(tmp_path / "b.png", [[7]]), rgb).tolist() == [[[7, 7, 7]]]


def test_files_of_named_channels_make_up_one_image(tmp_path: Path) -> None:
    paths = [saved(tmp_path / "flair.png", [[1, 2]]), saved(tmp_path / "t1.png", [[3, 4]])]
    named = DataConfig(channels=["flair", "t1"])
    assert decode.read_channels(paths, named).tolist() == [[[1, 3], [2, 4]]]
    saved(tmp_path / "t1.png", [[3, 4, 5]])
    with pytest.raises(
        DataError, match=r"t1\.png must have the size of .*flair\.png, 2x1, got 3x1; export all channels"
    ):
        decode.read_channels(paths, named)


def test_a_grey_picture_that_was_saved_as_colour_jpeg_holds_no_colour(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), dtype=np.uint8)
    scanned = np.repeat(noise, 3, axis=-1)
    scanned[::2] = np.clip(np.add(scanned[::2], [2, 0, -2]), 0, 255)  # a sensor is not quite grey
    grey, colour = tmp_path / "grey.jpg", tmp_path / "colour.png"
    Image.fromarray(scanned).save(grey, quality=30)
    scanned[5, 5] = (90, 60, 60)
    Image.fromarray(scanned).save(colour)
    assert not decode.holds_colour(grey)
    assert decode.holds_colour(colour)


def test_a_deep_image_of_one_value_is_black(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "a.png", [[700, 700]], np.uint16)).tolist() == [[0, 0]]


def test_a_bilevel_image_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").tolist() == [[255, 0]]


def test_the_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "a.png", format="JPEG")
    assert read_image(tmp_path / "a.png").tolist() == [[9] * 8] * 8


@pytest.mark.parametrize(
    ("dtype", "tumor"),
    [
        (np.uint8, 255),
        (np.uint8, 1),
        (np.uint8, 17),
        (np.uint16, 65_535),
        (np.uint16, 1),
        (np.int32, 255),
        (np.float32, 1.0),
        (np.float32, 0.25),
        (bool, True),
    ],
)
def test_zero_and_one_other_value_are_a_mask(tmp_path: Path, dtype: Any, tumor: Any) -> None:
    mask = read_mask(saved(tmp_path / "mask.tif", [[0, tumor, 0], [tumor, tumor, 0]], dtype))
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE, (255, 255, 255), (1, 1, 1)])
def test_a_mask_may_have_any_colour(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    assert read_mask(saved(tmp_path / "mask.png", [[(0, 0, 0), colour]])).tolist() == [[0, 1]]


def test_a_mask_may_have_alpha_or_a_palette(tmp_path: Path) -> None:
    rgba = saved(tmp_path / "rgba.png", [[(0, 0, 0, 255), (255, 0, 0, 255)]])
    indices = Image.fromarray(np.array([[0, 1]], np.uint8))
    indices.putpalette([0, 0, 0, 128, 0, 0])
    indices.save(tmp_path / "palette.png")
    Image.merge("LA", [Image.fromarray(np.array([[0, 255]], np.uint8)), Image.new("L", (2, 1), 255)]).save(
        tmp_path / "la.png"
    )
    for path in (rgba, tmp_path / "palette.png", tmp_path / "la.png"):
        assert read_mask(path).tolist() == [[0, 1]]


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 1), (255, 1)])
def test_a_mask_of_one_value_is_empty_or_full(tmp_path: Path, value: int, expected: int) -> None:
    path = saved(tmp_path / "mask.png", np.full((5, 5), value), np.uint8)
    assert read_mask(path).tolist() == [[expected] * 5] * 5


def disc(side: int, radius: float) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where(np.hypot(rows, columns) <= radius, 255, 0).astype(np.uint8)


def test_soft_edges_are_cut_at_half_of_the_maximum(tmp_path: Path) -> None:
    values = np.zeros((10, 10), np.uint8)
    values[4, 2:7] = [99, 100, 200, 101, 40]
    assert mask_kind(values) is MaskKind.SOFT
    assert read_mask(saved(tmp_path / "mask.png", values))[4].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0]


def test_a_resized_or_compressed_mask_is_soft_and_keeps_its_area(tmp_path: Path) -> None:
    sharp = disc(128, 20)
    Image.fromarray(sharp).save(tmp_path / "mask.jpg", quality=60)
    Image.fromarray(disc(256, 40)).resize((128, 128), Image.Resampling.BICUBIC).save(tmp_path / "mask.png")
    for name in ("mask.jpg", "mask.png"):
        path = tmp_path / name
        assert mask_kind(np.asarray(Image.open(path))) is MaskKind.SOFT
        wrong = np.count_nonzero(read_mask(path) != (sharp > 0))
        assert wrong <= 16  # of 1,256 pixels, all of them on the edge


def labels(*areas: int) -> NDArray[np.uint8]:
    """Areas of 4x4 pixels with these values on a background of 16x24 zeros."""
    values = np.zeros((16, 24), np.uint8)
    for position, value in enumerate(areas):
        values[4:8, 2 + 5 * position : 6 + 5 * position] = value
    return values


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (labels(1, 2, 4), "0, 1, 2, 4"),
        (labels(128, 255), "0, 128, 255"),
        (labels(85, 170, 255), "0, 85, 170, 255"),
        (np.array([[1, 2], [2, 1]], np.uint8), "1, 2"),
    ],
)
def test_class_labels_are_no_mask_of_two_classes_by_the_rules_of_version_0_1(
    tmp_path: Path, values: NDArray[np.uint8], named: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_mask(saved(tmp_path / "mask.png", values), reading=1)
    assert str(caught.value) == (
        f"{tmp_path / 'mask.png'} is not a mask of two classes, it holds the values {named}; "
        "write 0 for background and 255 for tumour"
    )


def test_negative_values_are_no_mask(tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.tif", [[-1, 0, 1]], np.int32)
    with pytest.raises(DataError, match="the values -1, 0, 1;"):
        read_mask(path, reading=1)
    with pytest.raises(DataError, match=r"the values -1 \(in 1\), 1 \(in 1\) of 1 files; write class numbers from 1"):
        read_mask(path)


def test_an_image_in_the_place_of_a_mask_is_found_out(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:64, :64]
    path = saved(tmp_path / "mask.png", disc(64, 25) // 255 * (60 + rows + columns))
    assert "are image and mask exchanged?" in one_line(read_mask, path)


def test_a_mask_in_the_alpha_channel_alone_is_named(tmp_path: Path) -> None:
    drawn = np.zeros((4, 4, 4), np.uint8)
    drawn[1:3, 1:3, 3] = 255
    assert "is a mask in the alpha channel alone, and all black; write it as 255 on 0" in one_line(
        read_mask, saved(tmp_path / "mask.png", drawn)
    )
    drawn[..., 3] = 255
    assert read_mask(saved(tmp_path / "mask.png", drawn)).max() == 0


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_missing_file_is_named(tmp_path: Path, read: Any) -> None:
    assert "doesn't exist; restore it" in one_line(read, tmp_path / "a.png")


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    assert "is a folder, not an image" in one_line(read_image, tmp_path / "a.png")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", [[1]])
    path.chmod(0)
    assert "permission denied" in one_line(read_image, path)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b"", "is empty (0 bytes)"),
        (b"patient,age\n", "is not a PNG, JPEG, TIFF, BMP, GIF or WebP image"),
        (b"P5 1 1 255 " + b"\0" * 99, "is not a PNG"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes, wrong: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert wrong in one_line(read_image, path)


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.jpg", {}), ("a.tif", {"compression": "tiff_lzw"})])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64))
    path = saved(tmp_path / name, noise, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "copy or export it again" in one_line(read_image, path)


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64)))
    content = bytearray(path.read_bytes())
    content[2000] ^= 0xFF
    path.write_bytes(content)
    assert "is damaged or cut off" in one_line(read_image, path)


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


# Above our limit alone; where PIL warns; where PIL raises.
@pytest.mark.parametrize("side", [12_289, 13_000, 60_000])
def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path, side: int) -> None:
    text = one_line(read_image, png_header(tmp_path / "a.png", side, side))
    assert "has more than 150994944 pixels; if it is a slice, export it at 12288x12288 or less" in text


@pytest.mark.parametrize(("width", "height"), [(1, 2**26), (2**26, 1), (40_000, 8)])
def test_a_picture_of_extreme_sides_is_not_unpacked(tmp_path: Path, width: int, height: int) -> None:
    text = one_line(read_image, png_header(tmp_path / "a.png", width, height))
    assert f"is {width}x{height}, and no side may be above 32768; cut it into parts" in text


def with_scans(count: int, **options: Any) -> bytes:
    """A JPEG with its last scan repeated, so that it has so many."""
    content = io.BytesIO()
    Image.new("L", (16, 16), 9).save(content, format="JPEG", **options)
    whole = content.getvalue()
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (count - whole.count(b"\xff\xda")) + whole[-2:]


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_endless_scans_is_not_decoded(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_scans(101, progressive=progressive))
    assert "is a JPEG of 101 scans, at most 100 are read; export it again" in one_line(read_image, path)
    Image.new("L", (16, 16), 9).save(path, progressive=progressive)
    assert read_image(path)[0, 0] == 9


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_pipe_among_the_files_is_named_and_not_waited_for(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert "is a pipe, socket or device, not an image; remove it" in one_line(read, tmp_path / "a.png")


@pytest.mark.parametrize("name", [b"\xff.png", b"a\nb.png"])
def test_a_name_that_cant_be_shown_is_named_in_ascii(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    with pytest.raises(DataError) as caught:
        read_image(path)
    text = str(caught.value)
    assert text.isascii()
    assert "\n" not in text
    assert "has a name that can't be shown (bytes that aren't UTF-8, line ends); rename it" in text


def test_an_image_without_pixels_is_named(tmp_path: Path) -> None:
    one_line(read_image, png_header(tmp_path / "a.png", 0, 5))


def pages(path: Path, *values: int, about: str = "") -> Path:
    """A TIFF of 4x4 pixels a page, each of one value."""
    frames = [Image.new("L", (4, 4), value) for value in values]
    frames[0].save(path, save_all=True, append_images=frames[1:], description=about)
    return path


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ("", "holds 3 pages: name them by data.channels=[NAME,...] if they are channels; slices of a volume aren't"),
        ("ImageJ=1.53\nimages=3\nslices=3\n", "is a volume of 3 slices, as its header says, and volumes aren't read"),
        ("ImageJ=1.53\nimages=3\nchannels=3\n", "holds 3 channels, as its header says; name them all by data.channels"),
        ('<Pixels SizeC="1" SizeZ="3"/>', "is a volume of 3 slices"),
    ],
)
def test_a_tiff_of_several_pages_is_said_to_be_a_volume_or_channels(tmp_path: Path, about: str, told: str) -> None:
    assert told in one_line(read_image, pages(tmp_path / "a.tif", 1, 2, 3, about=about))


def test_pages_are_channels_where_as_many_are_named(tmp_path: Path) -> None:
    path = pages(tmp_path / "a.tif", 10, 20, 30)
    image = decode.read_channels([path], DataConfig(channels=["flair", "t1", "t2"]))
    assert (image.shape, image[0, 0].tolist()) == ((4, 4, 3), [10, 20, 30])
    with pytest.raises(
        DataError, match=r"a\.tif holds 3 pages, and data\.channels names 2 \(flair, t1\); name each of"
    ):
        decode.read_channels([path], DataConfig(channels=["flair", "t1"]))
    volume = pages(tmp_path / "b.tif", 1, 2, 3, about="ImageJ=1.53\nslices=3\n")
    with pytest.raises(DataError, match=r"b\.tif is a volume of 3 slices"):
        decode.read_channels([volume], DataConfig(channels=["flair", "t1", "t2"]))


def test_samples_are_channels_where_as_many_are_named(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(tmp_path / "a.tif")
    data = DataConfig(channels=["dapi", "gfp", "rfp", "bf"])
    assert decode.read_channels([tmp_path / "a.tif"], data)[0, 0].tolist() == [1, 2, 3, 4]
    with pytest.raises(DataError, match=r"holds 4 samples a pixel, and data\.channels names 2"):
        decode.read_channels([tmp_path / "a.tif"], DataConfig(channels=["dapi", "gfp"]))


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "gif", "webp"])
def test_every_format_gives_the_same_pixels(tmp_path: Path, ending: str) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(values).save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), values)


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_of_what_moves_the_first_picture_is_read(tmp_path: Path, ending: str) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], duration=50)
    assert read_image(tmp_path / f"a.{ending}").max() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_values_that_are_not_finite_are_named(tmp_path: Path, read: Any, value: float) -> None:
    assert "NaN or infinite" in one_line(read, saved(tmp_path / "a.tif", [[0.0, value, 1.0]], np.float32))
