"""Reads the tensors of a PyTorch state dictionary (`.pth`), without PyTorch and without running anything in the file.

Such a file is a program of the pickle machine, which can call any function. Here the program is followed on a machine
that knows the dozen instructions by which tensors are described; at any other one, and at any function but the two
that stand for a dictionary and a tensor, reading ends.
The layout is that of torch.save before version 1.6: magic number, protocol, system, the dictionary, the keys of the
storages, then each storage as its number of elements (int64) and its bytes.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from brainseg.errors import InputError

MAGIC = 0x1950A86A20F9469CFC6C
MAX_BYTES = 2**31
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


class _Mark:
    """Where the arguments of an instruction begin on the stack."""


class _UnknownError(Exception):
    """Something that isn't needed to describe tensors."""


def read_torch_file(path: Path) -> dict[str, NDArray[Any]]:
    """Name -> array, for every tensor in the file, in its order. Raises InputError for anything else in it."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _UnknownError(f"more than {MAX_BYTES} bytes")
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}; check the path") from error
    except (_UnknownError, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path} is not a plain PyTorch file of tensors ({error}); save a state_dict by "
            "torch.save(model.state_dict(), FILE, _use_new_zipfile_serialization=False)"
        ) from error


def _read(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if _follow(file) != MAGIC:
        raise _UnknownError("no magic number")
    _follow(file)  # protocol
    if not _follow(file)["little_endian"]:
        raise _UnknownError("big-endian numbers")
    tensors = _follow(file)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise _UnknownError("no dictionary of tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    contents = {}
    for key in _follow(file):
        storage = storages[key]
        if int.from_bytes(file.read(8), "little") != storage.elements:
            raise _UnknownError("a storage of another length than its tensors say")
        data = file.read(storage.elements * storage.dtype.itemsize)
        contents[key] = np.frombuffer(data, storage.dtype, storage.elements)
    return {str(name): _array(tensor, contents[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, content: NDArray[Any]) -> NDArray[Any]:
    """The tensor's own copy of what it shows of its storage."""
    if len(tensor.shape) != len(tensor.strides) or min((*tensor.shape, *tensor.strides, tensor.offset), default=0) < 0:
        raise _UnknownError("a tensor that its storage doesn't hold")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if last >= len(content):
        raise _UnknownError("a tensor that its storage doesn't hold")
    strides = [step * content.itemsize for step in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(content[tensor.offset :], tensor.shape, strides, writeable=False))


def _follow(file: BinaryIO) -> Any:
    """Follows one program, from where the file stands to its end; what it describes."""
    machine = _Machine()
    for operation, argument, _ in pickletools.genops(file):
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.step(operation.name, argument)
    raise _UnknownError("no end")


class _Machine:
    """The stack and the memory of one program."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follows one instruction. Raises _UnknownError for one that describes no tensors."""
        if name in PUSHED:
            self.stack.append(PUSHED[name](argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memory[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memory[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._replace(int(name[-1]), tuple)
        elif name == "TUPLE":
            self.stack.append(tuple(self._marked()))
        elif name in ("APPEND", "APPENDS"):
            values = self._last(1) if name == "APPEND" else self._marked()
            self.stack[-1].extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._last(2) if name == "SETITEM" else self._marked()
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            self.stack.append(_storage(*self.stack.pop()))
        elif name == "REDUCE":
            self._replace(2, _called)
        elif name == "BUILD":
            self.stack.pop()  # attributes of the dictionary, such as its version
        elif name != "PROTO":
            raise _UnknownError(f"instruction {name}")

    def _last(self, count: int) -> list[Any]:
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _replace(self, count: int, function: Callable[[list[Any]], Any]) -> None:
        self.stack.append(function(self._last(count)))

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        place = max(position for position, value in enumerate(self.stack) if isinstance(value, _Mark))
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values


def _same(value: Any) -> Any:
    return value


# Instruction -> what it pushes, by its argument. A GLOBAL stays a text: nothing is ever imported.
PUSHED: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "GLOBAL"), _same),
    "NONE": lambda _: None,
    "NEWFALSE": lambda _: False,
    "NEWTRUE": lambda _: True,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "MARK": lambda _: _Mark(),
}


def _storage(kind: str, dtype: str, key: str, location: str, elements: int, view: object) -> _Storage:
    if kind != "storage" or view is not None:
        raise _UnknownError("a storage of a kind of its own")
    if dtype not in DTYPES:
        raise _UnknownError(dtype)
    return _Storage(key=key, dtype=np.dtype(DTYPES[dtype]), elements=elements)


def _called(function_and_arguments: Sequence[Any]) -> Any:
    function, arguments = function_and_arguments
    if function == DICTIONARY and not arguments:
        return {}
    if function == TENSOR:
        storage, offset, shape, strides, *_ = arguments
        return _Tensor(storage=storage, offset=offset, shape=shape, strides=strides)
    raise _UnknownError(f"a call of {function}")
