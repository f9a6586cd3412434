"""Write files and folders whole or not at all; read JSON and YAML that may be damaged."""

import contextlib
import errno
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FORMAT = 1
"""The layout of every JSON file cvx writes; a reader refuses a higher number."""
MAX_YAML = 2**20
"""Bytes of a YAML file, what its aliases stand for included."""
_LONE = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed onto it when the block ends well and removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(parent: Path) -> Iterator[Path]:
    """Give a temporary folder under `parent` for the block to fill and rename; removed if it is still there after."""
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=parent))
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
    except OSError as error:
        _name(error, parent)
        raise
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _name(error: OSError, path: Path) -> None:
    """Let the error of a full disk say which file it is about: by itself it does not."""
    if error.errno is None and " requested and " in str(error):  # all that numpy says is how much it could write
        error.errno, error.strerror = errno.ENOSPC, os.strerror(errno.ENOSPC)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename is None:
        error.filename = str(path)


def swap_folder(folder: Path, final: Path) -> None:
    """Put a finished folder in the place of an older one."""
    old = folder.with_name(f"{folder.name}-old")
    if final.exists():
        final.rename(old)
    folder.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object with the format number, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json_text({"format": FORMAT, **content}, indent=1) + "\n", encoding="utf-8")


def json_text(content: Any, indent: int | None = None) -> str:
    """Return strict JSON: numbers that are not finite, which JSON does not know, become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote; names in it that no file could hold are mended (`sound_text`).

    Raises:
        ValueError: If it is no JSON object, or of a newer format; the message names the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        content = _sound(content) if "\\ud" in text.lower() else content
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: no JSON ({error})") from None
    return check_format(content, path)


def sound_text(text: str) -> str:
    """Put `�94` in the place of a byte 94 that was no UTF-8: as Python keeps it, it can be neither written nor sent."""
    return _LONE.sub(lambda found: f"\ufffd{ord(found[0]):x}".replace("\ufffddc", "\ufffd"), text)


def one_line(error: BaseException) -> str:
    """Return an error's message, or its kind where it has none, in one line of bounded length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _sound(value: Any) -> Any:
    if isinstance(value, str):
        return sound_text(value)
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return [_sound(item) for item in value] if isinstance(value, list) else value


def check_format(content: Any, path: Path) -> dict[str, Any]:
    """Return what was read from a file if it is an object of a format that this cvx reads.

    Raises:
        ValueError: If it is not; the message names the file.
    """
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError(f"{path} is damaged: expected a JSON object with a format number")
    if content["format"] > FORMAT:
        raise ValueError(f"{path} is of format {content['format']}, this cvx reads up to {FORMAT}; install a newer cvx")
    return content


class _Bounded(yaml.SafeLoader):
    """YAML whose aliases, written out, are no longer than a file may be: few lines can stand for billions of values."""

    def get_single_node(self) -> yaml.Node | None:
        """Measure a document before its values are made."""
        node = super().get_single_node()
        if node is not None:
            _written_out(node, {})
        return node


def _written_out(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Return about how long a node is with its aliases written out; `known` holds those measured, None those begun."""
    if id(node) not in known:
        known[id(node)] = None
        pairs = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
        scalar = isinstance(node, yaml.ScalarNode)
        known[id(node)] = 1 + (len(node.value) if scalar else sum(_written_out(child, known) for child in pairs))
    length = known[id(node)]
    if length is None:
        raise yaml.YAMLError("an alias stands for a value that it is a part of")
    if length > MAX_YAML:
        raise yaml.YAMLError(f"its aliases stand for more than {MAX_YAML:,} bytes")
    return length


def read_yaml(path: Path) -> Any:
    """Read a person's YAML file: plain values, lists and mappings; no tag is obeyed.

    Raises:
        ValueError: If it cannot be read; the message names the file.
    """
    if (size := path.stat().st_size) > MAX_YAML:
        raise ValueError(f"{path} has {size:,} bytes; a file that a person wrote has at most {MAX_YAML:,}")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Bounded)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
