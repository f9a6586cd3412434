"""Names, versions and aliases: which folder under the store's root a model or a set of samples is."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock

from cvx.data.dataset_types import Splits
from cvx.files import read_json, whole_folder, write_json
from cvx.models import Classifier
from cvx.names import slug
from cvx.store import checkpoint
from cvx.store.checkpoint import Card
from cvx.store.layout import StoreLayout
from cvx.store.runs import Run
from cvx.store.samples import Samples, copy_samples, read_samples, write_samples

_VERSION = re.compile(r"v(\d+)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""What a model or a run may be called: one plain part of a path."""
NUM_DIGITS = 6
"""Digits of a source's digest that tell apart what would have one name."""


def collection(dataset: str, model: str) -> str:
    """Return the name under which versions of this model for this dataset are kept."""
    return f"{slug(dataset)}-{slug(model)}"


def free_name(name: str, source: str, sources: Callable[[str], set[str]]) -> str:
    """Add digits of a source's digest to a name for as long as versions of another source have it."""
    if not source or sources(name) <= {"", source}:
        return name
    return free_name(f"{name}-{source[:NUM_DIGITS]}", source, sources)


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One stored version; a broken one has an error instead of a card."""

    name: str
    version: int
    folder: Path
    aliases: tuple[str, ...] = ()
    card: Card | None = None
    error: str = ""

    @property
    def reference(self) -> str:
        """Return the name that always means this version."""
        return f"{self.name}:v{self.version}"

    def load(self) -> tuple[Classifier, Card]:
        """Give back the ready model and its card."""
        return checkpoint.load(self.folder)


class Store(StoreLayout):
    """A folder of models, samples and runs; read afresh at every call."""

    def run(self, name: str) -> Run:
        """Return the run of a name, whether or not it is here."""
        return Run(self.runs_root / name)

    # models

    def models(self) -> list[ModelEntry]:
        """List every version of every model by name and version; broken ones too, with what is wrong."""
        return [entry for name in self._names() for entry in self.versions(name)]

    def best(self) -> list[ModelEntry]:
        """List each model once: its best version, or the newest where no best can be told."""
        chosen = []
        for name in self._names():
            entries = self.versions(name)
            marked = [entry for entry in entries if "best" in entry.aliases and entry.card]
            chosen += (marked or [entry for entry in entries if entry.card] or entries)[-1:]
        return chosen

    def versions(self, name: str) -> list[ModelEntry]:
        """List the versions of one model, oldest first."""
        folder = self.models_root / name
        aliases = self._aliases(folder)
        return [_entry(name, number, folder / f"v{number}", aliases) for number in _numbers(folder)]

    def resolve(self, reference: str) -> ModelEntry:
        """Find the version that `NAME`, `NAME:best`, `NAME:latest`, `NAME:v3` or `NAME@RUN` means; `NAME` is its best.

        Raises:
            ValueError: If there is none; the message lists what there is.
        """
        name, at, run = reference.partition("@")
        name, _, alias = name.partition(":")
        entries = self.versions(name) if NAME.fullmatch(name) else []
        if not entries:
            raise ValueError(self._unknown(name))
        if at:
            matches = [entry for entry in entries if entry.card and entry.card.run == run]
            matches.sort(key=lambda entry: entry.card is not None and entry.card.role == "best")
        elif version := _VERSION.fullmatch(alias):
            matches = [entry for entry in entries if entry.version == int(version[1])]
        else:
            matches = [entry for entry in entries if (alias or "best") in entry.aliases]
            if not alias and not matches:
                matches = entries
        if not matches:
            have = ", ".join([entry.reference for entry in entries] + sorted(self._aliases(entries[0].folder.parent)))
            raise ValueError(f"{name} has no version {reference!r}; it has {have}")
        return matches[-1]

    def add_model(self, classifier: Classifier, card: Card) -> ModelEntry:
        """Store a model as a new version of `card.name` and move the aliases that it now deserves.

        Where the name belongs to models of another source, six digits of the source's digest are added to it: one
        name's accuracies are of one task.
        """
        return self._add(card, lambda folder, named: checkpoint.save(folder, classifier, named))

    def adopt_model(self, source: Path, origin: str) -> ModelEntry:
        """Store a model that came from elsewhere, or find it if it is here; the source folder stays as it is.

        Raises:
            DamagedError: If the weights are not those that the card describes.
            ValueError: If its name is none.
        """
        checkpoint.load(source)
        card = dataclasses.replace(checkpoint.read_card(source), origin=origin)
        return self._add(card, lambda folder, named: checkpoint.copy(source, folder, named))

    def _add(self, card: Card, write: Callable[[Path, Card], Card]) -> ModelEntry:
        name = self.name_for(card.name, card.source)
        if not NAME.fullmatch(name):
            raise ValueError(f"a model's name has letters, digits, `_ . -` only, got {name!r}")
        folder = self.models_root / name
        with whole_folder(folder) as temporary:
            full = write(temporary, dataclasses.replace(card, name=name))
            with self._lock(folder):
                if self.name_for(name, card.source) != name:  # another process was first, with another source
                    return self._add(card, write)
                version = self.find(full)
                if version is None:
                    version = max(_numbers(folder), default=-1) + 1
                    temporary.rename(folder / f"v{version}")
                    self._move_aliases(folder, full, version)
                elif not full.origin:
                    self._move_aliases(folder, full, version)
        return _entry(name, version, folder / f"v{version}", self._aliases(folder))

    def name_for(self, name: str, source: str) -> str:
        """Return the name under which models of a source are kept: this one, or a longer one where it is taken.

        A name is taken by the source of its versions; of cards without one, from before there were digests, nothing
        is known, and they are joined as ever.
        """

        def sources(one: str) -> set[str]:
            entries = self.versions(one) if NAME.fullmatch(one) else []
            return {entry.card.source for entry in entries if entry.card}

        return free_name(name, source, sources)

    def find(self, card: Card) -> int | None:
        """Find the version that these weights have here: stored before a run was killed and resumed, or pulled."""
        for entry in self.versions(card.name):
            known = entry.card
            if known and (known.run, known.role, known.sha256) == (card.run, card.role, card.sha256):
                return entry.version
        return None

    def _move_aliases(self, folder: Path, card: Card, version: int) -> None:
        aliases = self._aliases(folder)
        aliases["latest"] = version
        best = aliases.get("best")
        if best is None or _score(card) >= _score(_entry(card.name, best, folder / f"v{best}", {}).card):
            aliases["best"] = version
        write_json(folder / "aliases.json", {"aliases": aliases})

    def _aliases(self, folder: Path) -> dict[str, int]:
        """Read the aliases that point at something; a lost or damaged file only loses the names."""
        try:
            content = read_json(folder / "aliases.json")["aliases"]
            pairs = {str(alias): int(version) for alias, version in content.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        return {alias: version for alias, version in pairs.items() if (folder / f"v{version}").is_dir()}

    def _names(self) -> list[str]:
        folder = self.models_root
        return (
            sorted(p.name for p in folder.iterdir() if p.is_dir() and NAME.fullmatch(p.name)) if folder.is_dir() else []
        )

    def _unknown(self, name: str) -> str:
        known = self._names()
        if not known:
            return f"no model {name!r}: the store {self.root} holds none yet; `python -m cvx starter` trains some"
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"no model {name!r} in {self.root}{hint} Known: {', '.join(known)}"

    # samples

    def add_samples(self, splits: Splits) -> Samples:
        """Store the dataset's fixed test images, at its own size, once per fingerprint."""
        folder = self.samples_root / slug(splits.name)
        with self._lock(folder):
            if (known := self._samples_version(folder, splits.samples_fingerprint)) is None:
                known = max(_numbers(folder), default=-1) + 1
                with whole_folder(folder) as temporary:
                    write_samples(temporary, splits)
                    temporary.rename(folder / f"v{known}")
        return read_samples(folder / f"v{known}")

    def adopt_samples(self, source: Path) -> Samples:
        """Store samples that came from elsewhere once per fingerprint; the source folder stays as it is.

        Raises:
            ValueError: If they are damaged.
        """
        given = read_samples(source)
        folder = self.samples_root / slug(given.dataset)
        with self._lock(folder):
            if (known := self._samples_version(folder, given.fingerprint)) is None:
                known = max(_numbers(folder), default=-1) + 1
                with whole_folder(folder) as temporary:
                    copy_samples(source, temporary)
                    temporary.rename(folder / f"v{known}")
        return read_samples(folder / f"v{known}")

    def samples(self, dataset: str, fingerprint: str = "") -> Samples:
        """Open the stored samples of a dataset: those of the fingerprint, or the newest.

        Raises:
            ValueError: If there are none; the message lists the datasets that have some.
        """
        folder = self.samples_root / slug(dataset)
        version = self._samples_version(folder, fingerprint)
        if version is None:
            raise ValueError(self._no_samples(dataset, fingerprint))
        return read_samples(folder / f"v{version}")

    def samples_of(self, card: Card) -> Samples:
        """Open the samples that a model's maps are drawn for: those it was stored beside, or others of its source.

        Raises:
            ValueError: If there are none; the message lists the datasets that have some.
        """
        if card.source and self._samples_version(self.samples_root / slug(card.dataset), card.samples) is None:
            same = (one for name in self.sample_sets() if (one := self.find_samples(name)).source == card.source)
            if (found := next(same, None)) is not None:
                return found
        return self.samples(card.dataset, card.samples)

    def find_samples(self, reference: str) -> Samples:
        """Open samples by `NAME` (a dataset's, or its short form; the newest) or `NAME:v3`.

        Raises:
            ValueError: If there are none; the message lists those there are.
        """
        match = re.fullmatch(r"(.*?)(?::v(\d{1,9}))?", reference, re.DOTALL)
        assert match is not None
        folder = self.samples_root / slug(match[1])
        known = _numbers(folder)
        version = int(match[2]) if match[2] else max(known, default=-1)
        if version not in known:
            names = ", ".join(self.sample_sets()) or "none"
            raise ValueError(f"no samples {reference!r} in {self.root}; known: {names}")
        return read_samples(folder / f"v{version}")

    def sample_sets(self) -> list[str]:
        """List all sets of samples as `NAME:vK`, the newest of each dataset first."""
        folder = self.samples_root
        return [f"{name}:v{number}" for name in self.datasets() for number in reversed(_numbers(folder / name))]

    def _no_samples(self, dataset: str, fingerprint: str) -> str:
        known = self.datasets()
        if fingerprint and slug(dataset) in known:
            return (
                f"{self.root} has samples of {dataset!r}, but not those that fit this model (fingerprint"
                f" {fingerprint}): the dataset was another one when it was trained; train it again on today's"
            )
        return f"no samples of {dataset!r} in {self.root}; datasets with samples: {', '.join(known) or 'none'}"

    def datasets(self) -> list[str]:
        """List the slugs of the datasets that have samples."""
        folder = self.samples_root
        return sorted(p.name for p in folder.iterdir() if _numbers(p)) if folder.is_dir() else []

    def _samples_version(self, folder: Path, fingerprint: str) -> int | None:
        for number in reversed(_numbers(folder)):
            try:
                if fingerprint in ("", read_json(folder / f"v{number}" / "card.json").get("fingerprint")):
                    return number
            except (OSError, ValueError):
                continue
        return None

    def _lock(self, folder: Path) -> FileLock:
        """Take the folder's lock; the operating system frees it when its owner dies."""
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / ".lock")


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    matches: Iterable[re.Match[str] | None] = (_VERSION.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def _entry(name: str, number: int, folder: Path, aliases: dict[str, int]) -> ModelEntry:
    names = tuple(sorted(alias for alias, version in aliases.items() if version == number))
    try:
        return ModelEntry(name, number, folder, names, checkpoint.read_card(folder))
    except (checkpoint.DamagedError, OSError) as error:
        return ModelEntry(name, number, folder, names, error=str(error))


def _score(card: Card | None) -> tuple[bool, float]:
    """Order versions by validation accuracy; the last weights of a run never outrank its best."""
    if card is None:
        return False, -1.0
    acc1: float | None = card.metrics.get("val/acc1")  # None, too, where it was written as a NaN
    return card.role != "last", -1.0 if acc1 is None else float(acc1)
