"""A disk of a few megabytes that some processes see only; it can be filled, cleared and made read-only."""

import contextlib
import subprocess
from pathlib import Path

import pytest
from killing import ROOT, start

ENTER = """
import ctypes, os, runpy, sys, tempfile
libc, (_, holder, *sys.argv) = ctypes.CDLL(None, use_errno=True), sys.argv
for kind in ("user", "mnt"):
    with open(f"/proc/{holder}/ns/{kind}") as space:
        if libc.setns(space.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"setns {kind}")
os.chdir(sys.argv.pop(0))
tempfile.tempdir = None  # what was found before TMPDIR was set
runpy.run_module("cvx", run_name="__main__", alter_sys=True)
"""
"""Runs a command where the disk is seen; a command of a process of its own would take seconds to import."""


class Disk:
    """A tmpfs in the mount namespace of a shell, which lives as long as it does."""

    def __init__(self, place, megabytes):
        self.place = place
        line = ["unshare", "--map-root-user", "--mount", "sh"]
        self._shell = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.sh(f"mount -t tmpfs -o size={megabytes}m none {place}")

    def sh(self, line):
        """Run a line of a shell where the disk is seen."""
        self._shell.stdin.write(f"{line} >&2 && echo well || echo ill\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == "well\n", line

    @property
    def outside(self):
        """Return where this process sees what lies on the disk."""
        return Path(f"/proc/{self._shell.pid}/root{self.place}")

    def cvx(self, *words, **environ):
        """Run a command where the disk is seen; return its exit code and all that it said."""
        process = start("-c", ENTER, self._shell.pid, ROOT, "cvx", *words, **environ)
        said, _ = process.communicate(timeout=250)
        return process.returncode, said

    def fill(self, room):
        """Leave so many bytes of the disk."""
        with (self.outside / "filler").open("wb", buffering=0) as filler:
            with contextlib.suppress(OSError):
                while filler.write(bytes(4096)):
                    pass
            filler.truncate(max(0, filler.tell() - room))

    def clear(self):
        """Make room again."""
        (self.outside / "filler").unlink()

    def end(self):
        """Unmount it: nobody is in its namespace any more."""
        self._shell.kill()
        self._shell.communicate()


@contextlib.contextmanager
def small_disk(place, megabytes=48):
    """Give an empty disk at an empty folder.

    Skips the test where a user may make no namespaces, as in most containers.
    """
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", place], capture_output=True).returncode:
        pytest.skip("this user may not mount a file system of their own (unshare -rm)")
    disk = Disk(place, megabytes)
    try:
        yield disk
    finally:
        disk.end()
