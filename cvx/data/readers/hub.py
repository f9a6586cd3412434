"""Image-classification datasets of the Hugging Face Hub, by `datasets`, cached in the data root."""

import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock

from cvx.data.dataset_types import Info, Source
from cvx.data.download import readable_size, unavailable
from cvx.data.readers.hub_table import Columns, Table, read
from cvx.files import whole_folder

_NAME = re.compile(r"\w[\w.-]*")
PROBE_S = 5.0
"""Seconds the Hub has for its first answer; `datasets` itself would try for half a minute."""


def source(name: str, root: Path) -> Source:
    """Read a dataset of the Hub by `ORG/NAME`, `ORG/NAME/CONFIG`, or either with `#COLUMN` for the labels.

    Downloaded once, into `<root>/hub`; afterwards no network is used.

    Raises:
        ValueError: If the name has another form, or the dataset's columns or splits do not say what to read.
        FileNotFoundError: If it is not there and cannot be fetched; names every way to get it.
    """
    columns = parse(name)
    return read(_obtain(f"hub:{columns.repository}", root, columns, []), columns, None)


def known(name: str, root: Path, columns: Columns, info: Info, ways: Sequence[str]) -> Source:
    """Read a dataset that cvx knows by name from its copy on the Hub.

    Args:
        ways: The other ways to get it, for the error.
    """
    return read(_obtain(name, root, columns, ways), columns, info)


def parse(name: str) -> Columns:
    """Take `hub:ORG/NAME[/CONFIG][#COLUMN]` apart; the prefix may be missing."""
    path, _, label = name.removeprefix("hub:").partition("#")
    match path.split("/"):
        case [org, repository, *config] if len(config) <= 1 and all(_NAME.fullmatch(p) for p in path.split("/")):
            return Columns(f"{org}/{repository}", config[0] if config else "", label=label)
    raise ValueError(f"{name!r} names no dataset of the Hub; write hub:ORG/NAME, for example hub:uoft-cs/cifar10")


def _obtain(name: str, root: Path, columns: Columns, ways: Sequence[str]) -> Mapping[str, Table]:
    folder = root / "hub" / columns.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _fetch(name, root, columns, folder, ways)
        return _open(folder, columns)


def _fetch(name: str, root: Path, columns: Columns, folder: Path, ways: Sequence[str]) -> None:
    import datasets
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HTTPError

    every_way = [*ways, *_hub_ways(columns, root, folder)]
    if not datasets.config.HF_HUB_OFFLINE and (reason := unreachable(ENDPOINT)):
        raise unavailable(name, root, f"no connection to {ENDPOINT} ({reason})", every_way)
    try:
        convert(columns.repository, columns.config, folder)
    except (OSError, HTTPError) as error:
        if isinstance(error, datasets.exceptions.DatasetNotFoundError) and not ways:
            raise ValueError(f"{error} Check the name; if it is private or gated, `hf auth login` first.") from None
        reason = f"{ENDPOINT}/datasets/{columns.repository}: {error}"
        raise unavailable(name, root, reason, every_way) from error


def _hub_ways(columns: Columns, root: Path, folder: Path) -> list[str]:
    return [
        f"with a network, run the command again: it is fetched from the Hub ({columns.repository})",
        f"on a machine with a network: hf download {columns.repository} --repo-type=dataset "
        f"--local-dir={columns.folder}, and copy that folder to {folder.absolute()}",
        f"copy {columns.folder} out of hub/ in another machine's data root into {root.absolute() / 'hub'}",
        "where Hugging Face's own cache holds it already, set HF_HUB_OFFLINE=1",
    ]


def unreachable(endpoint: str) -> str:
    """Say why the Hub does not answer; "" if it does, whatever the answer."""
    request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": "cvx"})
    try:
        urllib.request.urlopen(request, timeout=PROBE_S).close()
    except urllib.error.HTTPError as error:
        error.close()
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else str(reason)
    return ""


def convert(path: str, config: str, folder: Path) -> None:
    """Load a dataset by its name on the Hub, or from a folder of its files, and keep it as Arrow in `folder`.

    Images that the dataset only points to are copied in, so that the folder is all there is to it.

    Raises:
        ValueError: If `datasets` cannot make sense of it; says what to choose.
        OSError: If it cannot be reached or written.
    """
    from datasets import load_dataset_builder
    from datasets.exceptions import DatasetsError

    try:
        with whole_folder(folder.parent) as temporary:
            # What the Hub sends goes to Hugging Face's own cache, which may hold it already.
            cache = str(temporary / "cache") if Path(path).exists() else None
            builder = load_dataset_builder(path, config or None, cache_dir=cache)
            _announce(builder, path, folder)
            builder.download_and_prepare()
            dataset = builder.as_dataset()
            for split in dataset.values():
                split.info.license = split.info.license or _license(path)
            dataset.save_to_disk(temporary / "kept")
            (temporary / "kept").rename(folder)
    except OSError:
        raise
    except (ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).partition("Example of usage")[0].split())
        choose = "; choose one by hub:ORG/NAME/CONFIG" if "onfig" in reason else ""
        raise ValueError(f"{path} cannot be read by the datasets library: {reason}{choose}") from error


def _announce(builder: Any, path: str, folder: Path) -> None:
    from datasets.config import HF_HUB_OFFLINE
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    size = builder.info.download_size
    what = f"downloading {ENDPOINT}/datasets/{path} ({readable_size(size) if size else 'size unknown'})"
    if Path(path).exists() or HF_HUB_OFFLINE:
        what = f"converting {path}"
    else:
        what += f" to {HF_HUB_CACHE}"
    print(f"{what}; kept as Arrow in {folder.absolute()}", file=sys.stderr)


def _license(path: str) -> str:
    """Read the license from the dataset's card; "" if it has none."""
    from huggingface_hub import DatasetCard
    from huggingface_hub.errors import HTTPError

    try:
        card = DatasetCard.load(str(Path(path, "README.md")) if Path(path).exists() else path)
    except (
        OSError,
        HTTPError,
        ValueError,
    ):  # no card, or one without readable fields: then it names no license
        return ""
    named = card.data.get("license") or ""
    return named if isinstance(named, str) else ", ".join(named)


def _open(folder: Path, columns: Columns) -> Mapping[str, Table]:
    from datasets import DatasetDict, load_from_disk

    if not (folder / "dataset_dict.json").is_file():
        converted = folder.with_name(f"{folder.name}.arrow")
        if not converted.is_dir():
            convert(str(folder), columns.config, converted)
        folder = converted
    dataset = load_from_disk(str(folder))
    assert isinstance(dataset, DatasetDict)
    return dataset
