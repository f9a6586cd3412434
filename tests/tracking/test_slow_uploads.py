"""An upload of any length is waited for while it moves, and no longer than W&B is there."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from recorded_run import EPOCHS, LOGS, record
from wandb_arrivals import HASTY, WHERE, assert_arrived, check_artifacts, stream

from cvx.tracking import publish
from cvx.tracking.account import as_oserror
from cvx.tracking.run_link import read_link

STEPS = EPOCHS * LOGS + 1
SLOW = 200_000
"""Bytes per second: each of the two models, 1.5 MB, then takes longer than the client waits for an answer."""


def at_the_end(do):
    """Do something after a run's last step."""
    return lambda step: do() if step == STEPS - 1 else None


def model_begun(server):
    """Tell whether a model has been announced, whose bytes then follow."""
    project = server.state.project(None, "maps")
    return project is not None and ("model", "tiles-test_resnet") in project.collections


@pytest.mark.slow
def test_a_run_ends_well_however_long_its_uploads_take(wandb_server, tmp_path, capsys):
    began = time.monotonic()
    folder, said = stream(tmp_path / "store", after=at_the_end(lambda: setattr(wandb_server, "uplink", SLOW)))
    assert time.monotonic() - began > 15
    assert said[-1].startswith(f"W&B: all {STEPS} steps are at")
    assert_arrived(wandb_server, folder)
    run = wandb_server.run("maps", "run-a")
    assert run.state == "finished" and read_link(folder).complete
    check_artifacts(wandb_server, run)
    assert "MB sent" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_goes_while_a_model_is_on_its_way_is_left_and_publish_sends_it_slowly(wandb_server, tmp_path):
    """The upload itself is cut off, and nothing answers any more; later all is there, but the uplink is slow."""
    wandb_server.uplink = SLOW
    folder = record(tmp_path / "store")

    def go():
        wandb_server.wait_for(lambda: model_begun(wandb_server))
        time.sleep(2)  # the model's 1.5 MB are under way
        wandb_server.fail("down")

    threading.Thread(target=go, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(OSError, match="stopped answering; what has not arrived is kept"):
        publish(folder, WHERE, HASTY)
    assert time.monotonic() - began < 45 and not read_link(folder).complete
    wandb_server.heal()
    assert publish(folder, WHERE, HASTY).missing == ""
    run, history = wandb_server.run("maps", "run-a"), wandb_server.history("maps", "run-a")
    assert [row["_step"] for row in history[:STEPS]] == list(range(STEPS))
    assert run.state == "finished" and read_link(folder).complete
    check_artifacts(wandb_server, run)


@pytest.mark.slow
def test_a_server_that_answers_and_takes_nothing_is_not_waited_for_without_end(wandb_server, tmp_path, capsys):
    wandb_server.uplink = 1
    folder = record(tmp_path / "store", last=False)
    began = time.monotonic()
    with pytest.raises(OSError, match="W&B answers, but has taken nothing for"):
        publish(folder, WHERE, dataclasses.replace(HASTY, artifact=5))
    assert time.monotonic() - began < 60 and not read_link(folder).complete
    assert "W&B answers, but has taken nothing for" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_while_an_upload_is_waited_for_ends_the_command(wandb_server, tmp_path):
    wandb_server.uplink = 20_000
    folder = record(tmp_path / "store", last=False)
    command = [sys.executable, "-m", "cvx", "publish", "--project=maps", f"--artifacts={tmp_path / 'store'}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        wandb_server.wait_for(lambda: model_begun(wandb_server), seconds=90)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in said, said
    assert time.monotonic() - began < 12
    assert not read_link(folder).complete


@pytest.mark.slow
def test_tables_whose_artifacts_were_never_committed_have_not_arrived_and_are_sent_again(wandb_server, tmp_path):
    refused = wandb_server.fail(400, pattern="CommitArtifact run_table")
    folder, said = stream(tmp_path / "store")
    assert refused.hits == 4, "the embedding, the accuracy per class, the confusion and the calibration"
    assert said[-1].startswith("W&B: 4 tables did not arrive.") and not read_link(folder).complete
    assert publish(folder, WHERE, HASTY).missing == "4 tables did not arrive"
    wandb_server.heal()
    assert publish(folder, WHERE, HASTY).missing == ""
    assert read_link(folder).complete
    found = wandb_server.state.project(None, "maps").collections
    tables = [one for (kind, _), one in found.items() if kind == "run_table"]
    assert len(tables) == 4 and all(one.committed for one in tables)


def test_whatever_the_client_raises_is_one_clear_error():
    import wandb
    from requests.exceptions import ConnectionError as Refused
    from wandb.sdk.artifacts.exceptions import ArtifactNotLoggedError, WaitTimeoutError
    from wandb.sdk.lib.asyncio_manager import AlreadyJoinedError
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
    from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

    kinds = [HandleAbandonedError, MailboxClosedError, ServerResponseError, WandbApiFailedError, AlreadyJoinedError]
    kinds += [wandb.Error, wandb.errors.UsageError, WaitTimeoutError, Refused, TimeoutError, ConnectionResetError]
    errors = [kind("so it went") for kind in (*kinds, ValueError)]
    errors += [wandb.errors.CommError("so it went"), ArtifactNotLoggedError("so.it went", wandb.Artifact("a", "b"))]
    for error in errors:
        with (
            pytest.raises(OSError, match="the model did not arrive: .*it went"),
            as_oserror("the model did not arrive"),
        ):
            raise error
    for fault in (KeyError("a fault of ours"), TypeError("a fault of ours")):
        with pytest.raises(type(fault)), as_oserror("the model did not arrive"):
            raise fault
    with pytest.raises(OSError, match=r"^No space left$"), as_oserror("the model did not arrive"):
        raise OSError("No space left")
