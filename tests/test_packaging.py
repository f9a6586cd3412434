"""cvx in a plain clone, as a Space and installed, where nothing else of it lies on Python's path."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from gradio_client import Client
from packaging.requirements import Requirement
from small_store import ROOT, make_store
from sweeping import PROGRAM, result

from cvx import processes
from cvx.__main__ import COMMANDS
from cvx.cli.starter import LEFT

PYTHON = getattr(sys, "_base_executable", sys.executable)
QUICK = ["--dataset=digits", "--model=resnet10t", "--stem=timm", "--epochs=1", "--batch_size=256", "--warmup_epochs=0"]


# Without an installation


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with all that is installed here but cvx; a Python that has nothing else is told of it."""
    packages = tmp_path_factory.mktemp("packages")
    for entry in (
        entry for folder in sys.path if Path(folder).name.endswith("-packages") for entry in Path(folder).iterdir()
    ):
        if "cvx" not in entry.name and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return packages


@pytest.fixture
def environ(packages):
    """An environment in which Python finds the packages, and cvx only where it lies beside what is started."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CVX_ARTIFACTS", *processes.WAITING)}
    return {**kept, "PYTHONPATH": str(packages), "PYTHONUNBUFFERED": "1", "OMP_DISPLAY_ENV": "VERBOSE"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "artifacts")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A plain clone of what a user needs of it."""
    checkout = tmp_path_factory.mktemp("clone") / "checkout"
    checkout.mkdir()
    for name in ("requirements.txt", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, checkout)
    for name in ("cvx", "demo", "configs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    return checkout


def python(environ, cwd, *words):
    done = subprocess.run([PYTHON, "-s", *map(str, words)], cwd=cwd, env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def page(environ):
    """Start a page and give its address and all that it said before; the test's end ends it."""
    started = []

    def start(cwd, *words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([PYTHON, "-s", *map(str, words)], cwd=cwd, env=environ, text=True, **pipes)
        started.append(process)
        lines = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout)
        return next(found[0] for found in lines if found)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_where_cvx_is_not_installed_it_is_not_found(environ, tmp_path):
    code, said = python(environ, tmp_path, "-c", "import numpy, cvx")
    assert code == 1 and "No module named 'cvx'" in said


@pytest.mark.slow
def test_the_page_of_a_plain_clone_answers(checkout, store, page, tmp_path):
    address = page(tmp_path, checkout / "demo" / "app.py", f"--artifacts={store.root}", "--port=0")
    assert len(Client(address, verbose=False).predict(api_name="/models")["models"]) == 3


CHILD = """
import sys, time
sys.path[0] = sys.argv[1]
from pathlib import Path
from demo.jobs.starter_training import StarterJob
job = StarterJob(Path("store"))
job.start()
while job.running:
    time.sleep(0.05)
time.sleep(0.2)
print(*job.lines)
"""


@pytest.mark.slow
def test_the_training_that_a_plain_clones_page_starts_finds_cvx(checkout, environ, tmp_path):
    (tmp_path / "store").mkdir()
    with FileLock(tmp_path / "store" / f"{LEFT}.lock"):  # so that the child has nothing to do but say so
        assert "another process is training the starter models" in python(environ, tmp_path, "-c", CHILD, checkout)[1]


@pytest.mark.slow
def test_the_trials_of_a_plain_clones_sweep_find_cvx_and_wait_as_it_does(checkout, environ, tmp_path):
    (tmp_path / "toy.py").write_text(f"import torch\n{PROGRAM}")
    command = ["${interpreter}", "${program}", "${args}"]
    content = {"program": str(tmp_path / "toy.py"), "command": command, "method": "grid", "metric": {"name": "loss"}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**content, "parameters": {"x": {"values": [0.3]}}}))
    script = "import sys; sys.path[0] = sys.argv.pop(1); from cvx.__main__ import main; sys.exit(main())"
    code, said = python(environ, tmp_path, "-c", script, checkout, "sweep", "toy.yaml")
    assert code == 0, said
    (trial,) = result(tmp_path)["trials"]
    assert trial["status"] == "finished"
    (log,) = tmp_path.glob("artifacts/sweeps/toy/logs/*.log")
    assert sys.platform != "linux" or f"GOMP_SPINCOUNT = '{processes.SPINS}'" in log.read_text()


def space_commands():
    """Return the README's commands that put a Space together."""
    text = (ROOT / "demo" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## As a Hugging Face Space")[2].partition("\n## ")[0]
    return re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]


@pytest.mark.slow
def test_a_space_put_together_as_the_readme_says_answers(checkout, store, page, environ, tmp_path):
    clone = shutil.copytree(checkout, tmp_path / "clone")
    shutil.copytree(store.root, clone / "artifacts", dirs_exist_ok=True)
    (clone / "artifacts" / "runs").mkdir(exist_ok=True)
    script = space_commands().partition("git ")[0]  # git itself would go to the Hub
    subprocess.run(["sh", "-ec", script], cwd=clone, check=True)
    space = tmp_path / "space"
    assert (space / "requirements.txt").read_text() == (ROOT / "requirements.txt").read_text()
    environ["GRADIO_SERVER_NAME"] = "127.0.0.1"
    answer = Client(page(space, "app.py", "--port=0"), verbose=False).predict(
        ["tiles-vit_tiny"], sample="tiles:6", api_name="/compare"
    )
    assert answer["label"] == "blue" and answer["answers"][0]["error"] == ""
    code, said = python(environ, space, "-c", "from cvx.store.provenance import provenance; print(provenance())")
    assert code == 0 and "'cvx': ''" in said and "'git_commit': ''" in said


# Installed


@pytest.fixture(scope="module")
def wheel(checkout):
    """The wheel that `pip install` would make of the clone."""
    script = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (checkout / "dist").iterdir()
    return zipfile.ZipFile(wheel)


@pytest.fixture
def installed(wheel, tmp_path, environ):
    """A folder of Python's packages that holds cvx, in somebody's project."""
    site = tmp_path / "project" / "site-packages"
    wheel.extractall(site)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=b", "-c", "init.defaultBranch=main", "init", "-q", site.parent],
        check=True,
    )
    environ["PYTHONPATH"] = os.pathsep.join([str(site), environ["PYTHONPATH"]])
    return site


def needed_files(names):
    """Leave out Python, which is always there, and what only documents show."""
    return {name for name in names if not name.endswith((".py", ".pyc", ".md", ".png", ".gif"))}


@pytest.mark.slow
def test_the_wheel_holds_every_file_that_the_code_reads_and_says_what_it_needs(wheel):
    files = [path for folder in ("cvx", "demo") for path in (ROOT / folder).rglob("*") if path.is_file()]
    there = needed_files(path.relative_to(ROOT).as_posix() for path in files)
    held = needed_files(name for name in wheel.namelist() if ".dist-info/" not in name)
    assert len(there) > 12 and held == there
    modules = {path.relative_to(ROOT).as_posix() for path in files if path.suffix == ".py"}
    assert modules <= set(wheel.namelist())
    [about] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    needs = BytesParser().parsebytes(wheel.read(about)).get_all("Requires-Dist")
    declared = {Requirement(one) for one in needs if "extra ==" not in one}
    listed = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert declared == {Requirement(line) for line in listed} and any(one.startswith("ruff") for one in needs)


EVERYTHING = """
import importlib.metadata, sys
point, = importlib.metadata.distribution("cvx").entry_points.select(group="console_scripts")
for words in [line.split() for line in open("lines")]:
    sys.argv = [f"/somewhere/bin/{point.name}", *words]
    main = point.load()
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    print("ENDED", code, *words, flush=True)
"""


@pytest.mark.slow
def test_every_command_works_without_the_checkout_with_flags_and_presets_by_path(installed, environ, tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    command = ["${interpreter}", "${program}", "${args}"]
    sweep = {"program": "toy.py", "command": command, "method": "grid", "metric": {"name": "loss"}}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**sweep, "parameters": {"x": {"values": [0.3]}}}))
    (tmp_path / "mine.yaml").write_text("".join(f"{one[2:].replace('=', ': ')}\n" for one in QUICK))
    works = [
        "train --help",
        "train --config=mine.yaml",
        "pipeline mine.yaml",
        "sweep toy.yaml --artifacts=toys",
        "evaluate digits-resnet10t",
        "attribute digits-resnet10t --num=1",
        "import --dataset=digits --model=resnet10t --stem=timm --name=mine --weights=artifacts/models/digits-resnet10t/v0/model.safetensors",
        "compare digits-resnet10t --num=20 --measures=properties",
        "report",
        "doctor",
        "prune",
    ]
    refused = ["publish", "pull a/b", "starter"]
    (tmp_path / "lines").write_text("\n".join(works + refused))
    code, said = python(environ, tmp_path, "-c", EVERYTHING)
    assert code == 0, said
    ended = {words: int(code) for code, words in re.findall(r"^ENDED (\d+) (.*)$", said, re.MULTILINE)}
    assert {line.split()[0] for line in ended} == set(COMMANDS)
    assert [line for line in works if ended[line] != 0] == [], said
    assert [line for line in refused if ended[line] != 2] == [], said
    assert "usage: cvx train" in said
    [line] = [line for line in said.splitlines() if line.startswith("cvx starter: ")]
    assert "needs presets that an installed cvx lacks" in line and "in the top folder of a checkout" in line
    [config] = [yaml.safe_load(file.read_text()) for file in sorted(tmp_path.glob("artifacts/runs/*/config.json"))]
    assert config["git_commit"] == ""  # the project that cvx is installed in has no commit, and none of it is cvx's


@pytest.mark.slow
def test_the_page_of_an_installed_cvx_answers(installed, store, page, tmp_path):
    address = page(tmp_path, "-m", "demo.app", f"--artifacts={store.root}", "--port=0")
    assert len(Client(address, verbose=False).predict(api_name="/models")["models"]) == 3
