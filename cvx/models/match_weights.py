"""Match the names and shapes of other people's weights to a model's: strip prefixes, explain misfits."""

import difflib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cvx.models import Classifier, stem
from cvx.models.foreign_weights import Foreign, shown

_INSERTED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of a name that torch.compile, FSDP and activation checkpointing put anywhere into it."""
_COUNTER = "num_batches_tracked"
"""BatchNorm's count of batches, which state dicts of before 2018 lack; torch accepts that."""
_MAX_NAME = 200


class _Misfit(NamedTuple):
    """How a state dict differs from what a model expects."""

    missing: list[str]
    surplus: list[str]
    misshaped: list[str]

    @property
    def num(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.misshaped)


def load_foreign(classifier: Classifier, foreign: Foreign) -> None:
    """Put somebody else's weights into the network of a Classifier; every name and shape must fit.

    Prefixes that all names share (`module.`, `model.`, `backbone.`, …) are taken off until everything fits.

    Raises:
        ValueError: If it does not; the message says what is missing, what is there instead and what to try.
    """
    expected = classifier.net.state_dict()
    found = [(_compare(state, expected), state) for state in _spellings(foreign.state)]
    misfit, state = min(reversed(found), key=lambda pair: pair[0].num)  # of two alike, the one with fewer prefixes
    if misfit.num:
        raise ValueError(_explained(classifier, foreign, misfit, state))
    # converted before it is judged: what float64 holds may be infinite in float32
    whole = {key: state[key].to(value.dtype) if key in state else value for key, value in expected.items()}
    if bad := [key for key, value in whole.items() if not value.isfinite().all()]:
        raise ValueError(f"the weights hold values that are not finite, first in {bad[0]}")
    classifier.net.load_state_dict(whole)


def _spellings(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Give a state dict without what wrappers insert, then also without one shared prefix after the other."""
    plain = {_without_inserted(key): value for key, value in state.items() if key != "n_averaged"}  # AveragedModel's
    state = plain if len(plain) >= len(state) - 1 else state
    yield state
    while len(heads := {key.partition(".")[0] for key in state}) == 1 and all("." in key for key in state):
        prefix = f"{heads.pop()}."
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        yield state


def _without_inserted(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _INSERTED)


def _compare(state: dict[str, Tensor], expected: dict[str, Tensor]) -> _Misfit:
    return _Misfit(
        missing=[key for key in expected if key not in state and not key.endswith(_COUNTER)],
        surplus=[key for key in state if key not in expected],
        misshaped=[key for key, value in expected.items() if key in state and not _same_shape(state[key], value)],
    )


def _same_shape(given: Tensor, expected: Tensor) -> bool:
    """Compare as torch does, which takes one value in a list for a scalar."""
    return given.shape == expected.shape or (expected.ndim == 0 and given.shape == (1,))


# what to say of a misfit


def _explained(classifier: Classifier, foreign: Foreign, misfit: _Misfit, state: dict[str, Tensor]) -> str:
    expected = classifier.net.state_dict()
    parts = [
        f"{key} has shape {tuple(state[key].shape)}, the model's is {tuple(expected[key].shape)}"
        for key in misfit.misshaped
    ]
    said = [_first(parts, "; ")] if parts else []
    if misfit.missing:
        said.append(f"missing {_first(misfit.missing)}")
    if misfit.surplus:
        said.append(f"unexpected {_first(misfit.surplus)}")
    if renamed := _renamed(misfit, state, expected):
        said.append(f"of the same shape under another name: {', '.join(renamed)}")
    hints = " ".join(_hints(classifier, foreign, misfit, state)) or (
        "Check the model's name, its classes, --image_size, --stem=timm and --patch_size"
    )
    needed = sum(not key.endswith(_COUNTER) for key in expected)
    there = needed - len(misfit.missing) - len(misfit.misshaped)
    return f"the weights do not fit the model: {there} of its {needed} tensors are there; {'; '.join(said)}. {hints}"


def _first(names: list[str], between: str = ", ", num: int = 3) -> str:
    more = f" and {len(names) - num} more" if len(names) > num else ""
    return between.join(shown(name, _MAX_NAME) for name in names[:num]) + more


def _renamed(misfit: _Misfit, state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Name for the first missing tensors what is there of their shape: the nearest name, or the only one."""
    pairs: list[str] = []
    spare = list(misfit.surplus)
    for key in misfit.missing[:3]:
        alike = [name for name in spare if state[name].shape == expected[key].shape]
        near = alike if len(alike) == 1 else difflib.get_close_matches(key, alike, n=1, cutoff=0.4)
        if near:
            spare.remove(near[0])
            pairs.append(f"{key} may be {shown(near[0])}")
    return pairs


def _hints(classifier: Classifier, foreign: Foreign, misfit: _Misfit, state: dict[str, Tensor]) -> Iterator[str]:
    if part := _fitting_part(classifier, state):
        before = next(f".{key}".partition(f".{part}.")[0] for key in foreign.state if f".{part}." in f".{key}")
        key = ".".join(filter(None, (foreign.key, before.strip("."), part)))
        yield f"What lies under {shown(part)} fits alone: --weights_key={shown(key)}."
    yield from _head_hint(classifier, misfit, state)
    yield from _stem_hint(classifier, state)


def _fitting_part(classifier: Classifier, state: dict[str, Tensor]) -> str:
    """Find the first part of names under which all lies that the model expects, among what it does not."""
    expected = classifier.net.state_dict()
    inner: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        inner.setdefault(part, {})[rest] = value
    large = (part for part in inner if 2 * len(inner[part]) >= len(expected))
    return next((part for part in large if not _compare(inner[part], expected).num), "")


def _head_hint(classifier: Classifier, misfit: _Misfit, state: dict[str, Tensor]) -> Iterator[str]:
    """Say that the classes are others, or that there is no classifier at all."""
    own = (getattr(classifier.net, "pretrained_cfg", None) or {}).get("classifier") or ()
    heads = [own] if isinstance(own, str) else list(own)
    num = classifier.build_args["num_classes"]
    for key in (f"{head}.weight" for head in heads):
        if key in misfit.misshaped and len(state[key]) != num:
            told = len(state[key])
            yield f"The weights tell {told} classes apart, the dataset has {num}: choose the dataset of these weights."
            return
    others = (*misfit.missing, *misfit.surplus, *misfit.misshaped)
    if misfit.missing and all(key.rpartition(".")[0] in heads for key in others):
        yield "They are a backbone without its classifier; cvx needs one that was trained with them."


def _stem_hint(classifier: Classifier, state: dict[str, Tensor]) -> Iterator[str]:
    """Say which channels, stem, patches and image size the first convolution and the position embedding speak of."""
    build = classifier.build_args
    anatomy = stem.anatomy_of(build["name"])
    given = next((state[key] for conv in anatomy.convs if (key := f"{conv.path}.weight") in state), None)
    if given is None or given.ndim != 4:
        return
    if given.shape[1] != build["in_chans"]:
        yield f"The weights take images of {given.shape[1]} channels, the dataset's have {build['in_chans']}."
    kernel = given.shape[-1]
    if anatomy.patch:
        yield from _patch_hint(classifier, state, kernel)
    elif kernel != classifier.net.get_parameter(f"{anatomy.convs[0].path}.weight").shape[-1]:
        fitted = f"as cvx fits it to images of at most {stem.SMALL} px: try such an --image_size, without --stem=timm"
        theirs = "as in timm: try --stem=timm" if kernel == anatomy.convs[0].kernel else fitted
        yield f"The kernel of their stem has {kernel} px, {theirs}."


def _patch_hint(classifier: Classifier, state: dict[str, Tensor], patch: int) -> Iterator[str]:
    build = classifier.build_args
    flags = [f"--patch_size={patch}"] if patch != build["patch_size"] else []
    side = patch * _grid(classifier.net, state.get("pos_embed"))
    if side and side != build["image_size"]:
        flags.append(f"--image_size={side}")
    if flags:
        of = f" of images of {side} px" if side else ""
        yield f"They see patches of {patch} px{of}: try {' '.join(flags)}."


def _grid(net: torch.nn.Module, embedding: Tensor | None) -> int:
    """Count the patches along a side that a position embedding [1, tokens, channels] was made for; 0 if unknown."""
    own = getattr(net, "pos_embed", None)
    grid = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if embedding is None or embedding.ndim != 3 or not isinstance(own, Tensor) or own.ndim != 3 or not grid:
        return 0
    tokens = embedding.shape[1] - (own.shape[1] - math.prod(grid))  # without class and register tokens
    side = math.isqrt(max(tokens, 0))
    return side if side**2 == tokens else 0
