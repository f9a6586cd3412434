"""End wandb's own process, `wandb-core`, which holds what is on its way to W&B."""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from cvx.tracking.account import as_oserror, client


@contextlib.contextmanager
def finishing(run: Any, exit_code: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Finish a run on W&B when the block is done or has failed; after Ctrl-C nothing is waited for.

    `run.finish` waits for seconds, and so does wandb at the end of the program. Somebody who presses Ctrl-C has had
    enough of waiting: what has not arrived is in the run's folder, and `publish` sends it.

    Args:
        exit_code: Asked for when the run is finished; None lets wandb say.
    """

    def finish() -> None:
        with as_oserror("the run could not be ended on W&B"):
            run.finish(exit_code=exit_code())

    try:
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException:
            finish()
            raise
        finish()
    except KeyboardInterrupt:
        kill()
        raise


def kill() -> None:
    """End wandb's process at once, whatever it has not sent; the next run that is opened gets a new one.

    A process that belongs to W&B's agent, which lends it to its programs, is left alone.
    """
    with contextlib.suppress(AttributeError):  # private names of wandb's: without them its end is waited for
        setup = client().sdk.wandb_setup.singleton()
        if (service := setup._connection._proc) is None:
            return
        for run in list(setup._active_runs):  # else their threads complain that nobody answers
            run._console_stop()
            run._run_status_checker.stop()
        service._process.kill()
        restart()


def restart() -> None:
    """End wandb's process in good order; the next run that is opened gets a new one."""
    with contextlib.suppress(Exception, SystemExit):  # a process that was killed cannot say goodbye
        client().teardown()
    os.environ.pop("WANDB_SERVICE", None)  # one that an agent shares with its programs is not ours to end
