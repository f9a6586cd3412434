"""Read weights that were trained elsewhere, from any common file format, without executing anything in it."""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys that training scripts keep the weights under: timm and Lightning, a tutorial, DeiT and torchvision, …"""
NO_CODE = "cvx runs no code from a checkpoint"
_TRUSTED = "where you trust it, load it with torch.load(…, weights_only=False) and save its state dict alone"

_AVERAGED = re.compile(r"(.*_)?(ema|swa|avg|averaged?)(_.*)?")
_MAX_PICKLE = 2**26
"""Bytes of a file that are searched for what its pickle holds."""
_MAX_LISTED = 12
_MAX_DEPTH = 8


class Foreign(NamedTuple):
    """Somebody else's weights and where in their file they lay."""

    state: dict[str, Tensor]
    key: str = ""
    """The keys that lead to them, joined by dots; empty if the file holds nothing else."""
    averaged: tuple[str, ...] = ()
    """Where the file has averaged weights beside them."""


def read(path: Path, key: str = "") -> Foreign:
    """Read somebody else's state dict from a file of torch.save or safetensors, whatever the file is called.

    Args:
        key: Where the weights lie in the file: a key, or several joined by dots, each of a nested dict or of tensors
            whose names begin with it. By default what is found under WRAPPERS.

    Raises:
        ValueError: If the file is something else, damaged, or would need code of its own to be run for loading; the
            message says what it is and what to do.
    """
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.is_file())
        raise ValueError(f"{path} is a folder; name the file in it that has the weights: {_few(inside)}")
    if not path.is_file():
        raise FileNotFoundError(f"no weights file {path}")
    with path.open("rb") as stream:
        head = stream.read(512)
    if _is_safetensors(head):
        content = _load_safetensors(path)
    elif what := _stranger(head) or (_strange_zip(path) if head.startswith(b"PK") else ""):
        raise ValueError(f"{path} {what}")
    else:
        content = _unpickle(path)
    return _pick(path, content, key)


def shown(text: object, length: int = 80) -> str:
    """Write a text from a file so that it cannot steer a terminal or fill it."""
    plain = "".join(char if char.isprintable() else "?" for char in str(text)[: length + 1])
    return plain if len(plain) <= length else f"{plain[:length]}…"


def _few(names: list[str]) -> str:
    return ", ".join(map(shown, names[:_MAX_LISTED])) + (", …" if names[_MAX_LISTED:] else "")


# what the file is


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000  # the format's own limit


_ANEW = "torch.save(model.state_dict(), 'weights.pth')"
_HEADS = {
    b"version https://git-lfs": "is a Git-LFS pointer, a text that stands for the weights; run `git lfs pull` where it"
    " was cloned, or download the file itself",
    b"<": "is a web page (HTML or XML), not weights: the link led to a page, a login or an error; download the file"
    " itself (on GitHub and Hugging Face, links with `resolve` or `raw` in place of `blob`)",
    b"\x89HDF\r\n": "is an HDF5 file, as Keras writes it; cvx reads PyTorch weights of timm models",
    b"\x1f\x8b": "is compressed with gzip; unpack it first (`gunzip`, or `tar xzf`)",
    b"\x93NUMPY": "is one NumPy array; cvx reads a state dict of names and tensors, saved with torch.save",
    b"GGUF": "is a GGUF file, as language models come in; cvx reads PyTorch weights of timm models",
}
"""What begins so, and what to do about it."""


def _stranger(head: bytes) -> str:
    """Say what a file is that torch.load would not know; empty if it may be one of torch.save's."""
    if not head:
        return "is empty: the download or the copy did not begin; get it again"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, what in _HEADS.items():
        if text.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return (
            "is a tar archive; unpack it and name the file with the weights. If PyTorch itself wrote it (before 2017),"
            f" {_TRUSTED}"
        )
    if head[:1] == b"\x08" and head[2:3] == b"\x12":  # the first two fields of its protobuf: IR version, producer
        return f"is an ONNX model; cvx needs the PyTorch weights that it was exported from: {_ANEW}"
    if head[:2] != b"PK" and head[:1] != b"\x80":  # zip, pickle
        return f"holds no weights that cvx can read: it begins with {head[:16]!r}; expected torch.save's or safetensors"
    return ""


def _strange_zip(path: Path) -> str:
    """Say what a zip archive is if it is none that torch.save writes; empty if it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "was cut short or damaged: its end is missing; download or copy it again"
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        return f"is a TorchScript archive, a model with its code; {NO_CODE}. {_saved('torch.jit.load')}"
    if {"archive_format", "models/model.json"} <= inside or "serialized_exported_program.json" in names:
        return f"is a model of torch.export; {NO_CODE}. {_saved('torch.export.load')}"
    if "data.pkl" not in inside:
        return f"is a zip archive of other things ({_few(names)}); unpack it and name the file with the weights"
    return ""


def _saved(loader: str) -> str:
    return f"Where you trust it, save its state dict alone: torch.save({loader}(FILE).state_dict(), 'weights.pth')"


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no readable safetensors file ({shown(error, 200)}); if it was cut short, get it again"
        ) from None


# what torch.save wrote


class _Ignored:
    """Stands for a value beside the weights: takes whatever a file gives it and keeps nothing.

    The classes that files name are never made, so none of their methods can be called with arguments or a state of
    the file's choosing (numpy's dtype, for one, would take any layout, and then any bytes for an object of it).
    """

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_HARMLESS = (
    "argparse.Namespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray", *map(str, np.sctypeDict))),
    *(
        f"{module}.{system}"
        for module in ("pathlib", "pathlib._local")  # Python 3.13's
        for system in ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")
    ),
)
"""Classes that stand beside weights in training scripts' files and tell nothing that is needed here."""


def _unpickle(path: Path) -> Any:
    try:
        names = [(_Ignored, name) for name in _HARMLESS]
        # opened here, since torch.load goes by the name's suffix before it looks at the content
        with path.open("rb") as stream, torch.serialization.safe_globals(names), warnings.catch_warnings():  # type: ignore[arg-type]
            warnings.simplefilter("ignore")  # of a pickle's protocol; what cannot be read raises
            return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds; all mean that the file is not plain tensors
        raise ValueError(f"{path} {_refusal(path, error)}") from None


def _refusal(path: Path, error: Exception) -> str:
    """Say in one line why torch refused a file, without its advice."""
    reason = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    with path.open("rb") as stream:
        content = stream.read(_MAX_PICKLE)
    if b"_parameters" in content and b"_modules" in content:  # an nn.Module's state names these
        what = f" (of the class {shown(named[1])})" if named else ""
        return f"holds a whole pickled model{what}, not its weights alone, and {NO_CODE}; {_TRUSTED}"
    if named:
        return (
            f"needs the class or function {shown(named[1])}, which is not allowed: {NO_CODE}, and reads"
            f" tensors, plain values, argparse.Namespace, paths and NumPy's values only; {_TRUSTED}"
        )
    if isinstance(error, EOFError) or "unexpected EOF" in reason:
        return "ends too early: the download or the copy was not finished; get it again"
    reason = reason.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    return f"is not a state dict of tensors only ({shown(reason, 200)}); {NO_CODE}. Save it anew with {_ANEW}"


# where in it the weights are


def _pick(path: Path, content: Any, key: str) -> Foreign:
    """Take the state dict out of what a file holds."""
    inner, way = content, key.split(".") if key else []
    if way and not isinstance(content, dict):
        raise ValueError(f"{path} {_no_state(content, '')}")
    for i, step in enumerate(way):
        inner = _under(inner, step)
        if not inner:
            where = f" under {shown('.'.join(way[:i]))}" if i else ""
            raise ValueError(f"{path} has no {shown(step)!r}{where} for --weights_key; it holds {_listed(content)}")
    while len(way) < _MAX_DEPTH and (step := _wrapper(inner)):
        inner = inner[step]
        way.append(step)
    where = ".".join(way)
    if not _is_state(inner):
        raise ValueError(f"{path} {_no_state(inner, where)}")
    for name, value in inner.items():
        if kind := _special(value):
            raise ValueError(f"{path}: {shown(name)} is a {kind} tensor; cvx reads plain ones of real numbers")
    return Foreign(inner, where, () if key else _averaged(content))


def _under(content: Any, step: str) -> Any:
    """Go one key down, in nested dicts or in names that begin with it."""
    start = f"{step}."
    names = [name for name in content if isinstance(name, str) and name.startswith(start)]
    flat = {name.removeprefix(start): content[name] for name in names}
    found = content.get(step, flat)
    return found if isinstance(found, dict) else None


def _wrapper(content: Any) -> str:
    return next((key for key in WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)), "")


def _is_state(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(one, Tensor) for name, one in value.items())
    )


def _leads_to_state(value: object) -> bool:
    return _is_state(value) or bool(_wrapper(value))


def _averaged(content: dict[Any, Any]) -> tuple[str, ...]:
    return tuple(
        str(key) for key, value in content.items() if _AVERAGED.fullmatch(str(key).lower()) and _leads_to_state(value)
    )


def _special(value: Tensor) -> str:
    """Name the form of a tensor that is none of plain real numbers."""
    forms = {"meta": value.is_meta, "quantized": value.is_quantized, "complex": value.is_complex()}
    return next((form for form, is_so in forms.items() if is_so), "" if value.layout == torch.strided else "sparse")


def _no_state(content: Any, where: str) -> str:
    """Say what is there instead of weights, and how to point at them."""
    if not isinstance(content, dict) or not content:
        return f"holds no state dict: expected names and tensors, got {_form(content)}"
    if _is_optimizer(content):
        return "is an optimizer's state, not a model's weights; name the file that has the model"
    start = f"{where}." if where else ""
    keys = [f"--weights_key={shown(f'{start}{key}')}" for key, value in content.items() if _leads_to_state(value)]
    advice = f"Choose with {' or '.join(keys[:4])}" if keys else f"None of it is a dict of tensors; save one: {_ANEW}"
    place = f" under {shown(where)}" if where else ""
    return f"holds no state dict under {', '.join(WRAPPERS)}; what it holds{place}: {_listed(content)}. {advice}"


def _is_optimizer(content: dict[Any, Any]) -> bool:
    return {"state", "param_groups"} <= set(content)


def _listed(content: dict[Any, Any]) -> str:
    """List keys and what they hold, those first that are no tensors by themselves."""
    entries = sorted(content.items(), key=lambda entry: isinstance(entry[1], Tensor))
    some = ", ".join(f"{shown(key, 40)} ({_form(value)})" for key, value in entries[:_MAX_LISTED])
    return some + (f" and {len(entries) - _MAX_LISTED} more" if len(entries) > _MAX_LISTED else "")


def _form(value: object) -> str:
    """Say in a few words what a value in a checkpoint is."""
    if isinstance(value, dict):
        tensors = sum(isinstance(one, Tensor) for one in value.values())
        whole = "tensors" if tensors == len(value) else "entries"
        return "an optimizer's state" if _is_optimizer(value) else f"{len(value)} {whole}"
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    return "not read" if isinstance(value, _Ignored) else type(value).__name__
