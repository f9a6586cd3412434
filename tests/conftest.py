"""What every test shares: folders of its own, and no network but loopback."""

import ipaddress
import os
import socket
import sys

import pytest
from wandb_server import KEY, WandbServer

from cvx.processes import spin_less

spin_less()
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # on few cores, threads that spin while they wait slow small tests tenfold


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """One data root for the whole run, so that each dataset is made into arrays once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch, tmp_path, data_root):
    monkeypatch.setenv("CVX_DATA", str(data_root))
    monkeypatch.setenv("CVX_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path_factory):
    """Be logged in nowhere, whatever the developer's machine is; wandb keeps its files in folders of the test's own."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("wandb")
    for name in ("DIR", "CACHE_DIR", "DATA_DIR", "CONFIG_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(folder / name.lower()))
    (folder / "dir").mkdir()
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there


@pytest.fixture(autouse=True)
def _no_survivors():
    """End what the test started through `killing.py`, so that one that fails leaves no writer beside the others."""
    yield
    if killing := sys.modules.get("killing"):
        while killing.STARTED:
            killing.STARTED.pop().end()


@pytest.fixture
def wandb_server(monkeypatch):
    """Be logged in to a stand-in for W&B on this machine, which must have understood all that it was asked."""
    import wandb

    wandb.teardown()  # an earlier test without a server may have told wandb of another address
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
        yield server
        wandb.teardown()
    assert server.refused == []


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Refuse every connection that would leave the machine, as a machine without a network does."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(101, f"Network is unreachable: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pytest_terminal_summary(terminalreporter):
    """List what tests measured."""
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.getreports(outcome)]
    measured = [
        (one.nodeid.rpartition("::")[2], *pair) for one in reports if one.when == "call" for pair in one.user_properties
    ]
    if measured:
        terminalreporter.section("measured")
    for test, name, value in measured:
        terminalreporter.line(f"{test}: {name}: {value}")
