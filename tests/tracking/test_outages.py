"""A W&B that is down, slow or refuses costs a run nothing, and what it could not take is sent later."""

import pytest
from recorded_run import EPOCHS, LOGS, record
from wandb_arrivals import HASTY, IMPATIENT, WHERE, assert_arrived, check_artifacts, stream

from cvx.store import Store
from cvx.store.runs import read_rows
from cvx.tracking import WandbSink, publish
from cvx.tracking.account import DEFAULT_TIMEOUTS
from cvx.tracking.run_link import read_link


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["down", 500, 429, 404], ids=str)
def test_what_an_outage_kept_from_wandb_publish_sends(wandb_server, tmp_path, kind):
    middle = LOGS

    def after(step):
        if step == middle:
            wandb_server.wait_for(
                lambda: wandb_server.state.project(None, "maps") and wandb_server.history("maps", "run-a")
            )
            wandb_server.fail(kind)

    folder, said = stream(tmp_path / "store", IMPATIENT, after=after)
    assert len(wandb_server.history("maps", "run-a")) < EPOCHS * LOGS + 1, "the outage must have kept something away"
    assert "python -m cvx publish run-a" in said[-1]
    assert not read_link(folder).complete
    wandb_server.heal()
    published = publish(folder, WHERE, HASTY)
    assert (published.missing, published.steps) == ("", published.recorded)
    assert_arrived(wandb_server, folder)
    assert read_link(folder).complete
    check_artifacts(wandb_server, wandb_server.run("maps", "run-a"))


@pytest.mark.slow
def test_a_server_that_does_not_answer_at_the_start_costs_the_run_nothing(wandb_server, tmp_path):
    wandb_server.fail("down")
    folder, said = stream(tmp_path / "store", IMPATIENT)
    assert len(read_rows(folder)) == EPOCHS * (LOGS + 1) + 1 and (folder / "summary.json").is_file()
    assert "does not answer" in said[0] and "python -m cvx publish run-a" in said[-1] and len(said) <= 2


@pytest.mark.slow
def test_a_slow_server_loses_nothing(wandb_server, tmp_path):
    wandb_server.fail("slow", seconds=0.3, times=12)
    folder, _ = stream(tmp_path / "store")
    assert_arrived(wandb_server, folder)


@pytest.mark.slow
def test_an_interrupted_run_sends_its_rows_and_goes_on_where_it_stopped(wandb_server, tmp_path):
    said = []
    sink = WandbSink(WHERE, HASTY, said.append)
    folder = record(tmp_path / "store", sinks=[sink], stop=6)
    sink.close(exit_code=143)
    assert_arrived(wandb_server, folder)
    assert wandb_server.run("maps", "run-a").state == "failed"
    assert not read_link(folder).complete


def test_a_wrong_key_costs_the_run_nothing(monkeypatch, wandb_server, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "1" * 40)
    _, said = stream(tmp_path / "store", last=False)
    assert "publish" in said[-1] and len(said) <= 2
    assert len(Store(tmp_path / "store").models()) == 1


@pytest.mark.slow
def test_a_server_that_dies_while_artifacts_are_on_their_way_is_not_waited_for(wandb_server, tmp_path):
    """The model's bytes get nowhere from the moment they are announced; all else has arrived."""
    dying = wandb_server.fail("down", pattern="PUT /storage/artifacts|CommitArtifact|viewer|Viewer")
    wandb_server.failures.clear()

    def after(step):
        if step == EPOCHS * LOGS:
            wandb_server.wait_for(
                lambda: wandb_server.state.project(None, "maps") and wandb_server.history("maps", "run-a")
            )
            wandb_server.failures.append(dying)

    folder, said = stream(tmp_path / "store", IMPATIENT, after=after)
    assert dying.hits and "python -m cvx publish run-a" in said[-1] and not read_link(folder).complete
    wandb_server.heal()
    assert publish(folder, WHERE, HASTY).missing == ""
    assert_arrived(wandb_server, folder)
    check_artifacts(wandb_server, wandb_server.run("maps", "run-a"))


def test_a_run_that_lost_its_server_ends_within_a_quarter_of_a_minute():
    assert DEFAULT_TIMEOUTS.ask + DEFAULT_TIMEOUTS.finish <= 15, (
        "one question, then what is on its way; nothing else is waited for"
    )
    assert DEFAULT_TIMEOUTS.connect <= 15, "where it was never there"
