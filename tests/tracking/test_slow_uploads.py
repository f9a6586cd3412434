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
from wandb_arrivals import HASTY, IMPATIENT, WHERE, assert_arrived, check_artifacts, stream

from cvx.tracking import WandbSink, publish
from cvx.tracking.account import as_oserror
from cvx.tracking.run_link import read_link

STEPS = EPOCHS * LOGS + 1
SLOW = 350_000
"""Bytes per second: each of the two models, 1.5 MB, then takes longer than the client waits for an answer."""
STUCK = 20_000
"""Bytes per second at which a model takes more than a minute."""
AT_ONCE_S = 6
"""Seconds that count as at once on a machine that does much else."""


def model_begun(server):
    """Tell whether a model has been announced, whose bytes then follow."""
    project = server.state.project(None, "maps")
    return project is not None and ("model", "tiles-test_resnet") in project.collections


def once_a_model_is_on_its_way(server, do):
    """Do something in another thread as soon as a model's first bytes have come."""

    def wait():
        server.wait_for(lambda: model_begun(server), seconds=90)
        server.uplink = STUCK
        time.sleep(1)
        do()

    server.uplink = 2 * SLOW
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_run_ends_well_however_long_its_uploads_take(wandb_server, tmp_path, capsys):
    began = []

    def after(step):
        if step == 6:
            wandb_server.wait_for(lambda: wandb_server.state.project(None, "maps"))
            wandb_server.wait_for(lambda: wandb_server.history("maps", "run-a"))
            sent = wandb_server.state.project(None, "maps").collections
            assert ("dataset", "tiles-samples") not in sent, "rows wait for nothing"
        if step == STEPS - 1:
            wandb_server.uplink = SLOW
            began.append(time.monotonic())

    folder, said = stream(tmp_path / "store", after=after)
    assert time.monotonic() - began[0] > 8
    assert said[-1].startswith(f"W&B: all {STEPS} steps are at")
    assert_arrived(wandb_server, folder)
    run = wandb_server.run("maps", "run-a")
    assert run.state == "finished" and read_link(folder).complete
    check_artifacts(wandb_server, run)
    assert "MB sent" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_that_goes_while_a_model_is_on_its_way_is_left_and_publish_sends_it_slowly(wandb_server, tmp_path):
    """The upload itself is cut off, and nothing answers any more; later all is there, but the uplink is slow."""
    folder, gone = record(tmp_path / "store"), []

    def go():
        wandb_server.fail("down")
        gone.append(time.monotonic())

    once_a_model_is_on_its_way(wandb_server, go)
    with pytest.raises(OSError, match="stopped answering; what has not arrived is kept"):
        publish(folder, WHERE, IMPATIENT)
    assert time.monotonic() - gone[0] < 30 and not read_link(folder).complete
    wandb_server.heal()
    wandb_server.uplink = 2 * SLOW
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
        publish(folder, WHERE, dataclasses.replace(IMPATIENT, artifact=2))
    assert time.monotonic() - began < 40 and not read_link(folder).complete
    assert "W&B answers, but has taken nothing for" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_while_publish_waits_for_an_upload_ends_the_command_at_once(wandb_server, tmp_path):
    folder, asked = record(tmp_path / "store", last=False), []
    command = [sys.executable, "-m", "cvx", "publish", "--project=maps", f"--artifacts={tmp_path / 'store'}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))

    def interrupt():
        asked.append(time.monotonic())
        process.send_signal(signal.SIGINT)

    once_a_model_is_on_its_way(wandb_server, interrupt)
    try:
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGINT and "Traceback" not in said and "Exception" not in said, said
    assert time.monotonic() - asked[0] < AT_ONCE_S
    assert not read_link(folder).complete


@pytest.mark.slow
def test_a_second_ctrl_c_while_a_run_waits_for_its_uploads_ends_it_at_once(wandb_server, tmp_path):
    said, asked = [], []
    sink = WandbSink(WHERE, HASTY, said.append)

    def interrupt():
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    once_a_model_is_on_its_way(wandb_server, interrupt)
    folder = record(tmp_path / "store", last=False, sinks=[sink])
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    assert time.monotonic() - asked[0] < AT_ONCE_S
    assert said[-1].startswith("W&B: not waited for. Everything is recorded locally; to send what is missing:"), said
    assert f"publish run-a --artifacts={tmp_path / 'store'}" in said[-1] and not read_link(folder).complete
    sink._thread.join(10)
    assert len(said) == 2, "nothing follows"
    wandb_server.uplink = 10 * SLOW
    assert publish(folder, WHERE, HASTY).missing == ""
    assert [row["_step"] for row in wandb_server.history("maps", "run-a")[:STEPS]] == list(range(STEPS))


@pytest.mark.slow
def test_tables_whose_artifacts_were_never_committed_have_not_arrived_and_are_sent_again(wandb_server, tmp_path):
    refused = wandb_server.fail(400, pattern="CommitArtifact run_table")
    folder, said = stream(tmp_path / "store")
    assert refused.hits == 2 * 4, "the embedding, accuracy per class, confusion and calibration, by two streams"
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
