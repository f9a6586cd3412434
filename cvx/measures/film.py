"""How the maps of a run's film settle while it trains, beside its accuracy."""

import zipfile
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from cvx.attribution import to_heatmap
from cvx.attribution.localization import localize
from cvx.attribution.stability import settled, through_epochs
from cvx.measures.interval import Interval, interval
from cvx.records import Run


@dataclass(frozen=True, eq=False)
class Settling:
    """Agreement between the epochs of one run, over the film's images."""

    run: str
    epochs: tuple[int, ...]
    to_last: dict[str, Float64[np.ndarray, "e n"]]
    """Agreement with the last frame, by measure."""
    to_previous: dict[str, Float64[np.ndarray, "e n"]]
    """Agreement with the frame before; nan for the first."""
    on_mask: dict[str, Float64[np.ndarray, "e n"]]
    """Localization (`cvx.attribution.localization`) of every frame's maps; empty without masks."""
    accuracy: tuple[float, ...]
    """`val/acc1` after each of the epochs; nan where the run did not record it."""

    def interval(self, name: str, frame: int) -> Interval:
        """Return the mean agreement of a frame with the last one."""
        return interval(self.to_last[name][frame])

    def curve(self, name: str = "spearman") -> list[float]:
        """Return the mean agreement of each frame with the last one."""
        return [self.interval(name, frame).mean for frame in range(len(self.epochs))]

    def settled_at(self) -> int:
        """Return the frame from which on the accuracy stays within a tenth of its way to the end; -1 if unknown."""
        return -1 if np.isnan(self.accuracy).any() else settled(self.accuracy)

    def sentence(self, name: str = "spearman") -> str:
        """Say whether the model settles where it looks before or after its accuracy settles.

        The comparison is with the last frame, so what a schedule that ends at a small step freezes counts as final.
        """
        frame = self.settled_at()
        if frame < 0:
            return f"{self.run}: no accuracy beside some of the frames, so nothing is said about what settles first."
        then = self.interval(name, frame)
        order = "have settled by then" if then.mean > 0.9 else "go on changing after it"
        return (
            f"{self.run}: accuracy has settled by epoch {self.epochs[frame]} of {self.epochs[-1]}; that epoch's maps"
            f" agree with the final ones to {then.text()}, the untrained model's to {self.interval(name, 0).text()}"
            f" (Spearman, {self.to_last[name].shape[1]} images): the maps {order}."
        )


def through_training(run: Run, masks: Bool[np.ndarray, "n h w"] | None = None) -> Settling | None:
    """Read a run's film and compare its frames; None for a run with fewer than two.

    Args:
        masks: Of the film's images, the first of the dataset's samples, where they are known.

    Raises:
        ValueError: If a frame is damaged; the message names it.
    """
    frames = run.frames("film")
    if len(frames) < 2:
        return None
    maps = []
    for path in frames.values():
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                maps.append(arrays["attribution"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it, the film does without") from None
    accuracy = {round(row["epoch"]): row["val/acc1"] for row in run.rows() if "val/acc1" in row}
    to_last, to_previous = through_epochs(maps)
    places = [] if masks is None else [localize(to_heatmap(one), masks) for one in maps]
    return Settling(
        run=run.name,
        epochs=tuple(frames),
        to_last=to_last,
        to_previous=to_previous,
        on_mask={name: np.stack([place[name] for place in places]) for name in (places[0] if places else ())},
        accuracy=tuple(accuracy.get(epoch, float("nan")) for epoch in frames),
    )
