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

ROOT = Path(__file__).parent.parent
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


def with_the_key(folder):
    """List the files that hold the key."""
    return [path for path in Path(folder).rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


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
    folders = [tmp_path, os.environ["WANDB_DIR"], os.environ["WANDB_CACHE_DIR"], os.environ["WANDB_CONFIG_DIR"]]
    assert {path for folder in folders for path in with_the_key(folder)} == {netrc}, "where it was put"
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
