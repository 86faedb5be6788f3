"""Reads the tensors of a PyTorch state dictionary (`.pth`), without PyTorch and without running anything in the file.

Such a file is a program of the pickle machine, which can call any function. Here the program is followed on a machine
that knows the dozen instructions by which tensors are described; at any other one, and at any name but those that
stand for dictionaries and tensors, reading ends.

torch.save writes a ZIP file, uncompressed: the dictionary is its `data.pkl`, and each storage a file `data/KEY`. Before
version 1.6 it wrote programs one after the other (magic number, protocol, system, the dictionary, the keys of the
storages), then each storage as its number of elements (int64) and its bytes.
"""

import io
import itertools
import math
import pickletools
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from brainseg.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
MAX_BYTES = 2**30
# A tensor takes about thirty; each may cost a hundred bytes of memory.
MAX_INSTRUCTIONS = 2**20
DTYPES: Mapping[str, str] = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
DICTIONARY = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"


@dataclass(frozen=True, kw_only=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    elements: int


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


class _UnknownError(Exception):
    """Something that isn't needed to describe tensors."""


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array, for every tensor in the file, in its order. Raises InputError for anything else in it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _UnknownError(f"more than {MAX_BYTES} bytes")
        content = path.read_bytes()
        return _read_zip(content) if content.startswith(b"PK") else _read_programs(content)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}; check the path") from error
    except Exception as error:  # whatever the damage leads to
        reason = ascii(str(error) or type(error).__name__)[1:-1][:100]  # it may quote the file
        raise InputError(
            f"{path} is not a plain PyTorch file of tensors ({reason}); save a state_dict by "
            "torch.save(model.state_dict(), FILE)"
        ) from error


def _read_zip(content: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > len(content):
            raise _UnknownError("compressed contents")
        (program,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = program.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise _UnknownError("big-endian numbers")
        tensors = _tensors(_follow(io.BytesIO(archive.read(program))))
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        return _arrays(tensors, ((key, archive.read(f"{folder}data/{key}")) for key in storages))


def _read_programs(content: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(content)
    if _follow(file) != MAGIC:
        raise _UnknownError("no magic number")
    _follow(file)  # protocol
    if not _follow(file)["little_endian"]:
        raise _UnknownError("big-endian numbers")
    tensors = _tensors(_follow(file))
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}

    def contents() -> Iterable[tuple[str, bytes]]:
        for key in _follow(file):
            if int.from_bytes(file.read(8), "little") != storages[key].elements:
                raise _UnknownError("a storage of another length than its tensors say")
            yield key, file.read(storages[key].elements * storages[key].dtype.itemsize)

    return _arrays(tensors, contents())


def _tensors(found: Any) -> Mapping[str, _Tensor]:
    if not isinstance(found, dict) or not all(isinstance(tensor, _Tensor) for tensor in found.values()):
        raise _UnknownError("no dictionary of tensors")
    return found


def _arrays(tensors: Mapping[str, _Tensor], contents: Iterable[tuple[str, bytes]]) -> dict[str, NDArray[Any]]:
    """contents: key of a storage -> its bytes."""
    known = dict(contents)
    return {name: _array(tensor, known[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, content: bytes) -> NDArray[Any]:
    """What the tensor shows of its storage, read-only."""
    storage, shape, strides = tensor.storage, tensor.shape, tensor.strides
    array = np.frombuffer(content, storage.dtype)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if (
        len(array) != storage.elements
        or min((*shape, *strides, tensor.offset)) < 0
        or math.prod(shape) > len(array)  # a stride of 0 shows an element many times
        or last >= len(array)
    ):
        raise _UnknownError("a tensor that its storage doesn't hold")
    steps = [step * array.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(array[tensor.offset :], shape, steps, writeable=False)


def _follow(file: BinaryIO) -> Any:
    """Follows one program, from where the file stands to its end; what it describes."""
    machine = _Machine()
    for operation, argument, _ in itertools.islice(pickletools.genops(file), MAX_INSTRUCTIONS):
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.step(operation.name, argument)
    raise _UnknownError(f"more than {MAX_INSTRUCTIONS} instructions")


class _Machine:
    """The stack and the memory of one program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []  # where on the stack the arguments of an instruction begin
        self._memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follows one instruction. Raises _UnknownError for one that describes no tensors."""
        if name in PUSHED:
            self.stack.append(PUSHED[name](argument))
        elif name == "MARK":
            self._marks.append(len(self.stack))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memory[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self._from(len(self.stack) - int(name[-1]))))
        elif name == "TUPLE":
            self.stack.append(tuple(self._from(self._marks.pop())))
        elif name in ("APPEND", "APPENDS"):
            values = self._from(len(self.stack) - 1 if name == "APPEND" else self._marks.pop())
            self.stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._from(len(self.stack) - 2 if name == "SETITEM" else self._marks.pop())
            self.stack[-1].update(zip(map(_text, items[::2]), items[1::2], strict=True))
        elif name == "BINPERSID":
            self.stack.append(_storage(*self.stack.pop()))
        elif name == "REDUCE":
            self.stack.append(_called(*self._from(len(self.stack) - 2)))
        elif name == "BUILD":
            self.stack.pop()  # attributes of the dictionary, such as its version
        elif name != "PROTO":
            raise _UnknownError(f"instruction {name}")

    def _from(self, place: int) -> list[Any]:
        """Takes what lies above this place of the stack."""
        values = self.stack[place:]
        del self.stack[place:]
        return values


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    """Hashing or showing a tuple within tuples within tuples would never end."""
    if not isinstance(value, str):
        raise _UnknownError("a key that is no text")
    return value


def _known(name: str) -> str:
    if name not in (DICTIONARY, TENSOR, *DTYPES):
        raise _UnknownError(name)
    return name


# Instruction -> what it pushes, by its argument. A GLOBAL stays a text: nothing is ever imported.
PUSHED: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _same),
    "GLOBAL": _known,
    "NONE": lambda _: None,
    "NEWFALSE": lambda _: False,
    "NEWTRUE": lambda _: True,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
}


def _storage(kind: str, dtype: str, key: str, location: str, elements: int, view: object = None) -> _Storage:
    if kind != "storage" or view is not None:
        raise _UnknownError("a storage of a kind of its own")
    return _Storage(key=_text(key), dtype=np.dtype(DTYPES[_text(dtype)]), elements=elements)


def _called(function: str, arguments: Sequence[Any]) -> Any:
    if function == DICTIONARY and not arguments:
        return {}
    if function == TENSOR:
        storage, offset, shape, strides, *_ = arguments
        return _Tensor(storage=storage, offset=offset, shape=shape, strides=strides)
    raise _UnknownError("a call of something else")
