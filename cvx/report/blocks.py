"""Blocks that sections are made of: plain data that the template draws, with every text escaped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind_of` is plain, note, finding or problem."""

    kind: ClassVar[str] = "text"
    text: str
    kind_of: str = "plain"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section, such as a dataset."""

    kind: ClassVar[str] = "heading"
    text: str
    aside: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text; all columns but the first `num_names` hold numbers."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_names: int = 1
    caption: str = ""
    keys: tuple[int, ...] = ()
    """A color per row, as in the legend of figures beside it."""
    wrap: bool = False
    """Whether the cells hold long text."""


@dataclass(frozen=True)
class Figure:
    """A drawing with its title above and a note below."""

    title: str
    svg: str = ""
    """Markup that cvx drew, which the page does not escape."""
    note: str = ""
    uri: str = ""
    """Of a picture, instead of a drawing."""


@dataclass(frozen=True)
class Figures:
    """Figures side by side, as many as fit."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]
    legend: tuple[tuple[str, str], ...] = ()
    """CSS color and words."""
    layout: str = "many"
    """many; pairs: two in a row at most; wide: each takes the whole width, on a white ground."""


@dataclass(frozen=True)
class Matrix:
    """A table whose cells are shaded from 0 to 1."""

    title: str
    corner: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[tuple[str, float], ...], ...]
    """Words and shade; a shade of nan is none."""
    note: str = ""
    num_own: int = 0
    """Columns from this one on stand apart; 0: none do."""


@dataclass(frozen=True)
class Matrices:
    """Matrices side by side, as many as fit."""

    kind: ClassVar[str] = "matrices"
    matrices: tuple[Matrix, ...]


@dataclass(frozen=True)
class Scale:
    """What a color bar's end stands for."""

    limit: str
    unit: str
    signed: bool = False


@dataclass(frozen=True)
class MapCell:
    """One model's map of one image, drawn in every way that the page offers."""

    uris: Mapping[str, str]
    caption: str
    wrong: bool = False
    detail: str = ""
    """For the pointer and for those who cannot see the picture."""


@dataclass(frozen=True)
class MapGrid:
    """Images against models; in narrow windows images are rows, in wide ones columns."""

    kind: ClassVar[str] = "mapgrid"
    name: str
    models: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    cells: tuple[tuple[MapCell, ...], ...]
    """By image, then by model."""
    ways: tuple[tuple[str, str], ...]
    """Key and words of each way a cell is drawn; the first is shown first."""
    scales: Mapping[str, Scale] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ModelFrames:
    """One model's frames of the film's images."""

    model: str
    epochs: tuple[int, ...]
    accuracies: tuple[str, ...]
    strengths: tuple[str, ...]
    """Mean norm of the maps after each epoch."""
    sprites: tuple[str, ...]
    """One picture per image, its frames below each other."""


@dataclass(frozen=True)
class Film:
    """Reels of one dataset's models, over the same images."""

    kind: ClassVar[str] = "film"
    name: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    reels: tuple[ModelFrames, ...]


@dataclass(frozen=True)
class Step:
    """One step of the lesson: a picture, or classes with their probabilities."""

    title: str
    text: str
    uri: str = ""
    bars: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Steps:
    """Steps in their order."""

    kind: ClassVar[str] = "steps"
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Command:
    """A command to copy."""

    kind: ClassVar[str] = "command"
    text: str


@dataclass(frozen=True)
class LabeledList:
    """Short sentences, each with a word or two that lead it."""

    kind: ClassVar[str] = "listing"
    items: tuple[tuple[str, str], ...]


Block = Text | Heading | Table | Figures | Matrices | MapGrid | Film | Steps | Command | LabeledList
Blocks = Sequence[Block]
