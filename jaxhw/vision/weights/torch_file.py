"""Reads the tensors of PyTorch's files without PyTorch, and without running anything that a file says.

A file of torch.save is a zip archive of one pickle, which describes tensors, and one entry of bytes for each storage
that they view. Before PyTorch 1.6 the same pickle and bytes followed one another without an archive. A pickle is a
program that may name any function of any module; here it gets the few that tensors need.
"""

import io
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import ml_dtypes
import numpy as np

from jaxhw.errors import UserError

STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Under which training scripts keep the weights beside others; DINO's teacher is what its authors evaluate.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "teacher")
PREFIXES = ("module.", "model.", "_orig_mod.")  # of (Distributed)DataParallel, Lightning, torch.compile
SUBMODELS = ("encoder_q.", "backbone.", "encoder.")  # of MoCo, DINO and Lightning's examples: what is evaluated
COUNTERS = ("n_averaged",)  # of averaged models, beside their weights
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how files began before PyTorch 1.6: a pickled number
BIG_ENDIAN = "was written by a big-endian machine: load and save it again on another"


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state_dict by name, from a .safetensors file or one of torch.save (any other suffix).

    A state_dict inside {"state_dict": ...} and the like is found, whatever else lies beside it; prefixes that wrappers
    of a model put before all names ("module.", "model.", "_orig_mod.") are dropped. Of several networks in one
    state_dict the one that is evaluated is taken ("encoder_q." of MoCo), and the others are named in a printed line.

    Raises:
        UserError: the file is missing or damaged, or its state_dict holds more than tensors of finite numbers.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        state = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(_unpickle(path))
    except UserError as error:  # which may quote the file, line breaks and all
        raise UserError(f"{path} {' '.join(str(error).split())}") from None
    except Exception as error:  # damaged bytes make a pickle or a zip file raise nearly anything
        reason = (str(error) or type(error).__name__).split("\n")[0]
        raise UserError(f"{path} is damaged or no file of weights: {reason}") from None
    state = _submodel({name: value for name, value in state.items() if name not in COUNTERS}, path)
    for name, value in state.items():
        if np.issubdtype(value.dtype, np.floating) and not np.isfinite(value).all():
            raise UserError(f"{path}: {name} holds numbers that are not finite: its training had diverged")
    return state


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    import safetensors.numpy

    return safetensors.numpy.load_file(path)


def _submodel(state: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The network of a state_dict, without what wrappers put before its names; says which, if there are more."""
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    chosen = next((p for p in SUBMODELS if any(name.startswith(p) for name in state)), None)
    if chosen is None:
        return state
    left_out = dict.fromkeys(name.split(".")[0] for name in state if not name.startswith(chosen))
    print(f"{path}: taking {chosen.rstrip('.')}" + (f", leaving out {', '.join(left_out)}" if left_out else ""))
    return _submodel({name.removeprefix(chosen): v for name, v in state.items() if name.startswith(chosen)}, path)


def _state_dict(found: Any) -> Mapping[str, np.ndarray]:
    """The state_dict in what a file holds; a UserError where there is none, or one with more than tensors."""
    # Training scripts wrap it, with an optimiser's state and options beside it: {"state_dict": ..., "args": ...}.
    while isinstance(found, Mapping):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = inner
    if isinstance(found, _Other):
        raise UserError(found.refusal)
    if not isinstance(found, Mapping):
        raise UserError("holds no state_dict")
    for name, value in found.items():
        if isinstance(value, _Other):
            raise UserError(value.refusal)
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise UserError(f"holds {name!r}, which is no tensor: save model.state_dict() alone")
    return found


def _unpickle(path: Path) -> Any:
    """What a file of torch.save holds, its tensors as arrays."""
    with path.open("rb") as file:
        if file.read(len(LEGACY)) == LEGACY:
            return _unpickle_legacy(file)
    if not zipfile.is_zipfile(path):
        raise UserError("is no zip archive as torch.save writes: it is cut off, or to be loaded and saved anew")
    # The archive has one folder, of any name: data.pkl, byteorder (in newer ones) and data/KEY for each storage.
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError("is a zip archive, but none of torch.save's: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and _entry(archive, f"{folder}byteorder") != b"little":
            raise UserError(BIG_ENDIAN)
        storage = lambda dtype, key, count: np.frombuffer(_entry(archive, f"{folder}data/{key}"), dtype, count)
        return _Unpickler(io.BytesIO(_entry(archive, pickles[0])), storage).load()


def _unpickle_legacy(file: BinaryIO) -> Any:
    """Reads what follows `LEGACY`: four more pickles, then each storage, its number of elements before its bytes."""
    # The pickles: a protocol version, facts about the machine that wrote it, the object, the storages' keys in order.
    # The object's tensors view storages that are still empty; their bytes come after it.
    unpickler = _Unpickler(file, lambda dtype, key, count: np.empty(count, dtype))
    _, writer, found, keys = (unpickler.load() for _ in range(4))
    if not writer["little_endian"]:
        raise UserError(BIG_ENDIAN)
    if sorted(keys) != sorted(unpickler.storages):
        raise ValueError("its storages are not those of its tensors")
    for storage in map(unpickler.storages.get, keys):
        (count,) = struct.unpack("<q", file.read(8))
        if count != len(storage) or file.readinto(storage.view(np.uint8)) != storage.nbytes:
            raise ValueError("a storage is cut off")
    return found


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of an entry of an archive."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:  # it could grow beyond all memory
        raise UserError(f"is none of torch.save's: its {name} is compressed")
    return archive.read(name)


@dataclass(frozen=True)
class _Type:
    """The type of a storage, by its name in ``STORAGES``."""

    name: str


@dataclass(frozen=True, eq=False)
class _Storage:
    """Memory that tensors view: of a file's own arrays only these, whose bounds are known, may be viewed."""

    array: np.ndarray  # [n]


class _Other:
    """What a pickle makes of anything that is no tensor (options, times, numpy's numbers): it does nothing.

    It stands for the call as for the result, and nothing of the file's is run.
    """

    what = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Other":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any): ...

    def ignore(self, *args: Any) -> None: ...

    __setitem__ = append = extend = add = ignore

    @property
    def refusal(self) -> str:
        return f"holds a {self.what}; only tensors are read: save model.state_dict() alone"


class _Unpickler(pickle._Unpickler):  # the one written in Python: C's memo can be made to fill the memory
    """``storage``: (dtype, key, number of elements) -> the array [n] of that key."""

    # what is set on an object is ignored: of a state_dict that is `_metadata`, and nothing else may be changed
    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: lambda self: self.stack.pop()}

    def __init__(self, file: BinaryIO, storage: Callable[[np.dtype, str, int], np.ndarray]):
        super().__init__(file, encoding="utf-8")
        self._storage = storage
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a function or class that the pickle names; an inert one for all that tensors do not need."""
        if module == "torch" and name in STORAGES:
            return _Type(name)
        known = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor": _tensor,  # before PyTorch 0.4
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
        }
        what = f"{module}.{name}"
        return known.get(what) or type("Other", (_Other,), {"what": what})

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that the pickle refers to by ("storage", type, key, device, number of elements)."""
        kind, type_, key, _, count, *view = pid
        if kind != "storage" or not isinstance(type_, _Type) or any(view):
            raise UserError(f"holds a {kind}, which is no tensor")
        if key not in self.storages:
            self.storages[key] = self._storage(np.dtype(STORAGES[type_.name]), key, count)
        return _Storage(self.storages[key])


def _tensor(viewed: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> np.ndarray:
    """A tensor as a view of its storage; strides count elements."""
    if not isinstance(viewed, _Storage):
        raise ValueError("a tensor without a storage")
    # Every element that shape and strides reach must lie in the storage.
    storage = viewed.array
    last = offset + sum(stride * (n - 1) for stride, n in zip(strides, shape, strict=True))
    numbers = (offset, *shape, *strides)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or math.prod(shape) > storage.size:
        raise ValueError("a tensor does not fit its storage")
    if 0 not in shape and last >= storage.size:
        raise ValueError("a tensor does not fit its storage")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * storage.itemsize for stride in strides], writeable=False
    )
