"""PyTorch's files of tensors: both layouts are read, and a file that is anything else is refused in one line."""

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainseg.errors import InputError
from brainseg.model.encoders import torch_file
from brainseg.model.encoders.torch_file import MAGIC, read_torch_file

Tensors = Mapping[str, np.ndarray[Any, Any]]
WRITTEN: Tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([7, -1]), "c": np.array(5)}
REFUSED = r"x\.pth is not a plain PyTorch file of tensors \("
KINDS = {"f": b"FloatStorage", "i": b"LongStorage"}


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def numbers(values: Any) -> bytes:
    return b"(" + b"".join(b"J" + int(value).to_bytes(4, "little") for value in values) + b"t"


def tensor(key: str, array: np.ndarray[Any, Any], *, view: bytes = b"") -> bytes:
    """How a pickle describes a tensor."""
    strides = [step // array.itemsize for step in array.strides]
    place = b"(" + text("storage") + b"ctorch\n" + KINDS[array.dtype.kind] + b"\n" + text(key) + text("cpu")
    place += b"J" + array.size.to_bytes(4, "little") + view + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + place + b"K\x00" + numbers(array.shape) + numbers(strides)
    return tensor + b"\x89ccollections\nOrderedDict\n)RtR"


def dictionary(items: Mapping[str, bytes]) -> bytes:
    inside = b"".join(text(name) + item for name, item in items.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + inside + b"u."


def programs(path: Path, tensors: Tensors) -> Path:
    """What torch.save of a state dictionary wrote before version 1.6, put together by hand."""
    header = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    items = {name: tensor(str(key), array, view=b"N") for key, (name, array) in enumerate(tensors.items())}
    keys = pickle.dumps([str(key) for key in range(len(tensors))], 2)
    storages = [array.size.to_bytes(8, "little") + array.tobytes() for array in tensors.values()]
    path.write_bytes(b"".join([*header, dictionary(items), keys, *storages]))
    return path


def zipped(path: Path, tensors: Tensors, program: bytes | None = None, **changes: bytes) -> Path:
    """What it writes since. program, changes: other contents than those of the tensors."""
    items = {name: tensor(str(key), array) for key, (name, array) in enumerate(tensors.items())}
    files = {"data.pkl": dictionary(items) if program is None else program, "byteorder": b"little"}
    files |= {f"data/{key}": array.tobytes() for key, array in enumerate(tensors.values())}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (files | changes).items():
            archive.writestr(f"archive/{name}", content)
    return path


LAYOUTS = pytest.mark.parametrize("write", [programs, zipped])


@LAYOUTS
def test_the_tensors_of_a_file_are_read_in_their_order(tmp_path: Path, write: Callable[..., Path]) -> None:
    read = read_torch_file(write(tmp_path / "x.pth", WRITTEN))
    assert list(read) == list(WRITTEN)
    for name, array in WRITTEN.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_a_file_that_would_run_a_command_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Command:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'run'}",)

    path = tmp_path / "x.pth"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        command = pickle.dumps(Command(), protocol)
        path.write_bytes(pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + command)
        with pytest.raises(InputError, match=REFUSED):
            read_torch_file(path)
        with pytest.raises(InputError, match=REFUSED):
            read_torch_file(zipped(path, {}, command))
    assert not (tmp_path / "run").exists()


@LAYOUTS
def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / "x.pth", WRITTEN)
    content = path.read_bytes()
    for kept in range(0, len(content), 3):
        path.write_bytes(content[:kept])
        with pytest.raises(InputError, match=REFUSED):
            read_torch_file(path)


@LAYOUTS
def test_a_file_with_a_damaged_byte_is_read_or_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / "x.pth", WRITTEN)
    content = path.read_bytes()
    told = []
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            read_torch_file(path)
        except InputError as error:
            told.append(str(error))
    assert len(told) > len(content) / 2
    assert all(len(line.splitlines()) == 1 for line in told)


NESTED = b")" + b"\x85" * 100_000  # a tuple within a tuple within ...
DOUBLED = b")" + b"q\x00h\x00h\x00\x87" * 64  # 3 to the power of 64 tuples, in 64 objects


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (b"\x80\x02}" + NESTED + b"Ns.", "a key that is no text"),
        (b"\x80\x02}" + DOUBLED + b"Ns.", "a key that is no text"),
        (b"\x80\x02" + NESTED + b")R.", "a call of something else"),
        (b"\x80\x02cos\nsystem\n.", "os system"),
        (b"\x80\x02c\x1b[31m\nx\n.", r"\x1b[31m x"),
        (b"\x80\x02h\x05.", "5"),  # from an empty memory
        (b"\x80\x02u.", "pop from empty list"),
        (b"\x80\x02.", "pop from empty list"),
        (b"\x80\x02" + b"N" * 2000 + b".", "more than 1000 instructions"),
        (b"\x80\x02X\xff\xff\xff\xff.", "expected 4294967295 bytes"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "not enough data"),
        (b"\x80\x02]2.", "instruction DUP"),
        (dictionary({"a": b"N"}), "no dictionary of tensors"),
    ],
)
def test_a_hostile_program_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: bytes, told: str
) -> None:
    if b"\x85\x85" not in program:
        monkeypatch.setattr(torch_file, "MAX_INSTRUCTIONS", 1000)
    with pytest.raises(InputError, match=REFUSED) as refused:
        read_torch_file(zipped(tmp_path / "x.pth", {}, program))
    assert told in str(refused.value)


def described(shape: Any, strides: Any, *, elements: int = 6) -> bytes:
    """A program with one tensor of another shape than its storage has, which is one of six numbers."""
    whole = tensor("0", np.arange(6, dtype=np.float32))
    whole = whole.replace(numbers([6]) + numbers([1]), numbers(shape) + numbers(strides))
    return dictionary({"a": whole.replace(b"J\x06\0\0\0t", b"J" + elements.to_bytes(4, "little") + b"t")})


@pytest.mark.parametrize(
    "program",
    [
        described([7], [1]),
        described([2], [6]),
        described([2**31 - 1], [0]),  # 8 GB of one number
        described([2**31 - 1, 2**31 - 1], [0, 0]),
        described([6], [1, 1]),
        described([6], [1], elements=7),
        described([6], [1], elements=5),
        described([6], [2**31 - 1]),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(InputError, match=REFUSED):
        read_torch_file(zipped(tmp_path / "x.pth", {"a": np.arange(6, dtype=np.float32)}, program))


def test_a_zip_file_that_grows_or_lacks_a_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**7))
    for told in ("compressed contents", "data/0", "big-endian numbers"):
        with pytest.raises(InputError, match=REFUSED) as refused:
            read_torch_file(path)
        assert told in str(refused.value)
        if told == "compressed contents":
            zipped(path, {}, dictionary({"a": tensor("0", np.zeros(2, np.float32))}))
        else:
            zipped(path, WRITTEN, byteorder=b"big")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_file, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"\(more than 100 bytes\)"):
        read_torch_file(zipped(tmp_path / "x.pth", WRITTEN))
