"""What processes begin with: children find cvx, and torch's threads sleep soon while they wait."""

import os
import re
import subprocess
import sys

import pytest
from small_store import ROOT

from cvx import processes
from cvx.tracking import run_link
from cvx.tracking.account import DEFAULT_TIMEOUTS

# Children


def test_children_find_this_cvx_first_and_what_was_on_the_path_before():
    assert processes.finding_cvx({"A": "b"}) == {"A": "b", "PYTHONPATH": str(ROOT)}
    found = processes.finding_cvx({"PYTHONPATH": "elsewhere"})
    assert found == {"PYTHONPATH": f"{ROOT}{os.pathsep}elsewhere"}


def test_the_folder_of_installed_packages_is_not_put_before_pythons_own(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "ROOT", tmp_path / "site-packages")
    assert processes.finding_cvx({"A": "b"}) == {"A": "b"}


# What cvx is installed in


def test_wandb_is_told_of_cvxs_own_repository_or_of_none(monkeypatch, tmp_path):
    monkeypatch.setattr(run_link, "ROOT", tmp_path)
    content = {"created": "2026-11-30T12:00:00+00:00"}
    installed = run_link._settings(content, True, DEFAULT_TIMEOUTS)
    assert installed.disable_git and installed.git_root is None
    (tmp_path / ".git").mkdir()
    cloned = run_link._settings(content, True, DEFAULT_TIMEOUTS)
    assert not cloned.disable_git and cloned.git_root == str(tmp_path)


# Threads


def waiting(*words, **environ):
    """Return what libgomp says at its start of how its threads wait, in a process that was started by these words."""
    kept = {name: value for name, value in os.environ.items() if name not in processes.WAITING}
    environ = {**kept, **environ, "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environ, capture_output=True, text=True)
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
TORCH = ["-m", "cvx", "doctor", "--artifacts=nowhere"]
"""A command that imports torch, and ends soon."""


@LINUX
@pytest.mark.slow
def test_a_commands_threads_sleep_soon_unless_the_user_has_said_how_they_wait():
    assert waiting(*TORCH) == {processes.SPINS}
    assert waiting(*TORCH, GOMP_SPINCOUNT="77") == {"77"}


@LINUX
@pytest.mark.parametrize("name", processes.WAITING)
def test_what_the_user_has_chosen_stands(name, monkeypatch):
    for one in processes.WAITING:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, "mine")
    processes.spin_less()
    assert {one: os.environ[one] for one in processes.WAITING if one in os.environ} == {name: "mine"}


def test_where_another_openmp_is_nothing_is_set(monkeypatch):
    for one in processes.WAITING:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setattr(sys, "platform", "darwin")
    processes.spin_less()
    assert not set(processes.WAITING) & set(os.environ)
