"""Find the W&B account and project, and ask W&B within bounded timeouts."""

import contextlib
import dataclasses
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvx.files import one_line

DEFAULT_PROJECT = "cvx"
OFFLINE_MODES = ("offline", "dryrun", "disabled")


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """How long W&B is waited for, in seconds: wandb itself would wait for minutes, or for ever."""

    connect: float = 15
    """For the answer to a question."""
    ask: float = 6
    """For the word, at a run's end, that W&B is still there; where it is not, nothing else is waited for."""
    finish: float = 8
    """For rows and pictures that are still on their way when a run ends, artifacts having come."""
    artifact: float = 120
    """For a W&B that answers and takes nothing of what is on its way; while that moves, it is waited for."""
    appear: float = 20
    """For rows to become readable that W&B has taken."""
    look: float = 60
    """Between two checks, while a run is at work, that its rows still arrive."""
    poll: float = 4
    """Between two checks that an upload still moves."""
    pause: float = 2
    """Before W&B is tried again while a run is at work; each pause is twice the one before."""


DEFAULT_TIMEOUTS = Timeouts()


@dataclasses.dataclass(frozen=True)
class Target:
    """A project of W&B; an empty entity is the user's own."""

    entity: str
    project: str

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}" if self.entity else self.project


def target(text: str) -> Target:
    """Read `[ENTITY/]PROJECT`; what is left out comes from WANDB_ENTITY and WANDB_PROJECT.

    Raises:
        ValueError: If a part holds what W&B does not allow in a name.
    """
    entity, _, project = text.rpartition("/")
    entity = entity or os.environ.get("WANDB_ENTITY", "")
    project = project or os.environ.get("WANDB_PROJECT", "") or DEFAULT_PROJECT
    for part in (entity or "-", project):
        if not re.fullmatch(r"[^/\\#?%:\s]{1,128}", part):
            raise ValueError(f"a project is [ENTITY/]PROJECT without spaces or any of / \\ # ? % :, got {text!r}")
    return Target(entity, project)


def reason_not_online(mode: str) -> str:
    """Return why a run is not streamed, or nothing if it is.

    Args:
        mode: `auto` streams where there is an account, `on` insists on one, `off` never does.

    Raises:
        ValueError: If streaming is asked for and there is no account.
    """
    if mode == "off":
        return "--wandb=off"
    if (wandb_mode := os.environ.get("WANDB_MODE", "")) in OFFLINE_MODES:
        return f"WANDB_MODE={wandb_mode}"
    if not logged_in():
        if mode == "on":
            raise ValueError("--wandb=on needs an account: run `wandb login` or set WANDB_API_KEY")
        return "not logged in to W&B"
    return ""


def logged_in() -> bool:
    """Tell whether credentials lie ready; nobody is asked for any, and no server is spoken to."""
    if not _any_credentials():
        return False
    import wandb

    try:
        return bool(client().login(prompt=False, verify=False))
    except (wandb.Error, ValueError, OSError):  # a key of the wrong form
        return False


def _any_credentials() -> bool:
    """Look whether anything could hold a key: without one, wandb and its service process need not even start."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    home = Path.home()
    netrc = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [home / ".netrc", home / "_netrc"]
    settings = Path(os.environ.get("WANDB_CONFIG_DIR") or home / ".config" / "wandb") / "settings"
    return any(path.is_file() for path in (*netrc, settings))


def client() -> Any:
    """Import wandb, and keep its own lines off the screen: what a person needs to know is said here, once.

    A user and a password in the server's address are left out, for wandb would repeat them in the address of every run;
    it lets nobody in by them.

    Raises:
        OSError: If one of W&B's variables holds what wandb does not take, such as a key that ends with a blank.
    """
    import wandb

    logging.raiseExceptions = False  # else each line of wandb's own log is a traceback on a full disk
    try:
        address = wandb.setup(wandb.Settings(silent=True)).settings.base_url
        if (bare := without_credentials(address)) != address:
            os.environ["WANDB_BASE_URL"] = bare  # wandb.Api asks the environment, not these settings
            wandb.setup(wandb.Settings(base_url=bare))
    except (wandb.Error, ValueError) as error:
        raise OSError(f"wandb does not take its variables: {_complaint(error)}") from None
    return wandb


def without_credentials(address: str) -> str:
    """Return a server's address without a user and a password in it."""
    return re.sub(r"(?<=://)[^/?#]*@", "", address)


def _complaint(error: Exception) -> str:
    """Return what is wrong with a variable; pydantic's own words would repeat what it holds."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        problems = error.errors(include_input=False)
        return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
    return one_line(error)


def api(timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Any:
    """Open W&B's public API.

    Raises:
        OSError: If there is no account, or no answer.
    """
    if not logged_in():
        if _any_credentials():
            client()  # says which variable it does not take, if that is why
        raise OSError("not logged in to W&B: run `wandb login` or set WANDB_API_KEY")
    with as_oserror("W&B does not answer"):
        return client().Api(timeout=math.ceil(timeouts.connect))


def answers(timeouts: Timeouts = DEFAULT_TIMEOUTS) -> bool:
    """Ask W&B anything, and tell whether a word came back."""
    try:
        with as_oserror(""):
            return bool(api(dataclasses.replace(timeouts, connect=timeouts.ask)).default_entity)
    except OSError:
        return False


@contextlib.contextmanager
def as_oserror(what: str, also: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Raise whatever goes wrong between wandb and W&B as an OSError that says what failed.

    Not all of that is a `wandb.Error`: a request that was given up, wandb's own process that died and an artifact in
    the wrong state have errors beside it, and a server's odd answer is a ValueError.

    Args:
        also: What counts as well, beside errors of wandb and of the network.
    """
    try:
        yield
    except Exception as error:
        origins = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
        if isinstance(error, (TimeoutError, ConnectionError, *also)) or origins & {"wandb", "requests"}:
            raise OSError(f"{what}: {one_line(error)}" if what else one_line(error)) from None
        raise
