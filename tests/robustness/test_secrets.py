"""An API key reaches W&B in a request's header, and nothing else: no file, log, report, artifact or page."""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from recorded_run import record
from small_store import served
from wandb_server import KEY
from wandb_server import server as stand_in

from cvx.__main__ import main
from cvx.tracking import wandb_sinks

ROOT = Path(__file__).parents[2]
SECRET = "5ec2e7" + "f00dcafe1234" * 2 + "deadbeef99"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def logged_in(wandb_server, monkeypatch, tmp_path):
    """Know the key from the variable and from a netrc file, as `wandb login` leaves it."""
    monkeypatch.setattr(stand_in, "KEY", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    (tmp_path / "home").mkdir()
    netrc = tmp_path / "home" / "netrc"
    netrc.write_text(f"machine 127.0.0.1\n  login user\n  password {SECRET}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    return wandb_server


def command(*words):
    """Run a command as a person does; return all that it said."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_SERVICE": ""}
    ended = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def swept(place, flags):
    """Write a sweep whose trials stream to W&B."""
    content = {
        "program": "cvx",
        "command": ["${env}", "${interpreter}", "-m", "cvx", "train", *flags, "--project=maps", "${args}"],
        "method": "grid",
        "metric": {"name": "val/acc1", "goal": "maximize"},
        "parameters": {"seed": {"values": [1, 2]}},
    }
    path = place / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def with_the_key(folder, secret=SECRET):
    """List the files that hold the key."""
    return [path for path in Path(folder).rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def folders_of(tmp_path):
    """List all places that cvx or wandb may write to."""
    return [
        tmp_path,
        *(os.environ[f"WANDB_{name}_DIR"] for name in ("CACHE", "CONFIG", "DATA")),
        os.environ["WANDB_DIR"],
    ]


def test_the_key_is_in_no_file_no_log_no_upload_and_no_page(logged_in, tmp_path, data_root):
    assert len(SECRET) == len(KEY) == 40
    root = tmp_path / "store"
    record(root)
    quick = [
        "--dataset=digits",
        "--model=test_resnet",
        "--stem=timm",
        "--epochs=1",
        "--warmup_epochs=0",
        "--device=cpu",
        "--wandb=on",
    ]
    said = command("-m", "cvx", "train", *quick, "--project=maps", f"--artifacts={root}", f"--data={data_root}")
    said += command("-m", "cvx", "publish", "run-a", "--project=maps", f"--artifacts={root}")
    said += command("-m", "cvx", "pull", "tester/maps", f"--artifacts={tmp_path / 'pulled'}")
    said += command(
        "-m", "cvx", "sweep", swept(tmp_path, [*quick, f"--data={data_root}"]), "--count=1", f"--artifacts={root}"
    )
    said += command("-m", "cvx", "report", f"--artifacts={root}")
    assert list((root / "sweeps").rglob("*.log")) and list((root / "sweeps").rglob("*.json")), "a ledger and its logs"
    assert logged_in.state.uploads and list((root / "reports").iterdir()), "there is something to look through"
    with served(root) as address:
        for path in ("/", "/config", "/gradio_api/info"):
            with urllib.request.urlopen(f"{address}{path}") as answer:
                said += answer.read().decode()
    assert SECRET not in said
    netrc = tmp_path / "home" / "netrc"
    assert {path for folder in folders_of(tmp_path) for path in with_the_key(folder)} == {netrc}, "where it was put"
    assert [path for path, content in logged_in.state.storage.items() if SECRET.encode() in content] == []
    assert SECRET not in "".join(logged_in.requests) + repr(logged_in.state.projects)


@pytest.mark.parametrize("trouble", ["refused", "gone"])
def test_an_error_of_w_and_b_does_not_repeat_the_key(logged_in, tmp_path, monkeypatch, trouble):
    folder = record(tmp_path / "store")
    if trouble == "refused":
        monkeypatch.setattr(stand_in, "KEY", KEY)  # no longer the one that is sent
    else:
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    words = ["-m", "cvx", "publish", folder.name, "--project=maps", f"--artifacts={tmp_path / 'store'}"]
    ended = subprocess.run([sys.executable, *words], cwd=ROOT, text=True, capture_output=True)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0 and said.strip() and SECRET not in said
    assert with_the_key(tmp_path) == [tmp_path / "home" / "netrc"]


def test_a_password_in_the_address_of_the_server_is_in_no_output_no_file_and_no_upload(
    wandb_server, tmp_path, monkeypatch, capfd
):
    import wandb

    def begin():  # as a process of its own does
        monkeypatch.setenv("WANDB_BASE_URL", wandb_server.url.replace("://", f"://user:{SECRET}@"))
        wandb.teardown()

    def ask(*words):
        begin()
        assert (
            main([*words, f"--artifacts={tmp_path / words[0]}" if words[0] == "pull" else f"--artifacts={root}"]) == 0
        )

    root, project = tmp_path / "store", "--project=tester/maps"
    record(root)
    begin()
    with wandb_sinks("on", "tester/maps") as sinks:
        record(root, "run-b", sinks=sinks)
    ask("publish", "run-a", project)
    ask("pull", "tester/maps")
    ask("compare", "tiles-test_resnet:v0", "tiles-test_resnet:v1", "--num=4", "--device=cpu", project)
    ask("report", "--num=4", "--device=cpu", project)
    said = "".join(capfd.readouterr())
    links = ("runs/run-a", "runs/run-b", "compare is at", "report: http", "workspace: http")
    assert all(word in said for word in links) and SECRET not in said
    assert "url" in (root / "runs/run-b/wandb.json").read_text() and list((root / "reports").glob("*.json"))
    assert [path for folder in folders_of(tmp_path) for path in with_the_key(folder)] == []
    assert [path for path, content in wandb_server.state.storage.items() if SECRET.encode() in content] == []
    assert SECRET not in "".join(wandb_server.requests) + repr(wandb_server.state.projects)


ODD_KEYS = {
    "short": "{}",
    "unknown": "{0}{0}",
    "with a line's end": "{0}{0}\n",
    "of two lines": "{0}\nX-Other: {0}",
    "of other letters": "schl\u00fcssel-{0}{0}",
    "with quotes": "'{0}\"$(echo {0})",
    "with a user": "user:{0}{0}",
    "endless": "{0}" * 400,
}


@pytest.mark.parametrize("form", ODD_KEYS.values(), ids=ODD_KEYS)
def test_an_odd_key_is_one_line_without_it_and_a_run_is_recorded_all_the_same(
    wandb_server, tmp_path, monkeypatch, capfd, form
):
    import wandb

    secret = SECRET[:20]
    monkeypatch.setenv("WANDB_API_KEY", form.format(secret))
    wandb.teardown()
    with wandb_sinks("auto", "maps") as sinks:
        folder = record(tmp_path / "store", sinks=sinks)
    assert (folder / "summary.json").is_file()
    capfd.readouterr()
    for words in (["publish", folder.name, "--project=maps"], ["pull", "tester/maps"]):
        assert main([*words, f"--artifacts={tmp_path / 'store'}"]) == 2
        said = "".join(capfd.readouterr())
        assert said.startswith(f"cvx {words[0]}: ") and said.count("\n") == 1 and secret not in said
    assert [path for folder in folders_of(tmp_path) for path in with_the_key(folder, secret)] == []


@pytest.mark.parametrize("address", ["user:{}@127.0.0.1:9", "http://user:{}@127.0.0.1:port", "http://user:{}@[::1"])
def test_an_address_that_is_none_is_one_line_without_its_password(tmp_path, monkeypatch, capfd, address):
    import wandb

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", address.format(SECRET))
    wandb.teardown()
    assert main(["pull", "tester/maps", f"--artifacts={tmp_path}"]) == 2
    said = "".join(capfd.readouterr())
    assert "base_url: " in said and said.count("\n") == 1 and SECRET[:12] not in said
