"""`make test-long`: runs test files one after the other and keeps the last outcome of each in results.txt."""

import datetime
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results.txt"
NAMES = ("CVX_KILLS", "CVX_EXAMPLES", "CVX_PROCESSES", "CVX_USERS", "CVX_LOAD_S", "CVX_REPEATS", "CVX_SCAN")
PYTEST = ["-o", "addopts=", "-p", "no:cacheprovider", "--no-header", "--timeout=20000", "--durations=25"]


def run(file):
    """Run one file; return its section and whether all passed."""
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-m", "pytest", file, *PYTEST], capture_output=True, text=True)
    numbers = " ".join(f"{name.removeprefix('CVX_')}={os.environ[name]}" for name in NAMES if name in os.environ)
    versions = f"Python {platform.python_version()}, torch {version('torch')}, gradio {version('gradio')}"
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts = f"{when}, {time.monotonic() - begun:.0f} s on {len(os.sched_getaffinity(0))} cores, {versions}"
    return f"{facts}\n{numbers}\n\n{ended.stdout.strip()}\n", ended.returncode == 0


def sections():
    """Return what is written down, by file."""
    if not RESULTS.is_file():
        return {}
    parts = re.split(r"^#### (.+)\n", RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def main(files):
    """Run all files, each kept as soon as it has ended; return the exit code."""
    good = True
    for file in files:
        section, passed = run(file)
        kept = {**sections(), file: section + "\n"}
        text = "".join(f"#### {name}\n{kept[name]}" for name in sorted(kept))
        RESULTS.write_text(text.rstrip() + "\n", encoding="utf-8")
        good &= passed
        print(f"{file}: {section.strip().splitlines()[-1].strip('= ')}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
