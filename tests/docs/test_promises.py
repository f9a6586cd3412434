"""What the README and the pages promise is there: commands and their flags, files, links, presets and targets."""

import ast
import contextlib
import functools
import io
import re
import shlex
from pathlib import Path

import pytest

from cvx.__main__ import COMMANDS, main
from cvx.config import parse
from cvx.data import DATASETS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCS = [
    README,
    *PAGES,
    *(
        ROOT / name
        for name in ("CHANGELOG.md", "CONTRIBUTING.md", "artifacts/README.md", "demo/README.md", "tests/long/README.md")
    ),
]
SUBJECTS = {
    "training",
    "maps",
    "comparing",
    "sweeps",
    "report",
    "wandb",
    "demo",
    "reliability",
    "benchmarks",
    "findings",
}
SCRIPTS = {"python demo/app.py": "demo/app.py", "python -m demo.film_gif": "demo/film_gif.py"}
"""What is started otherwise than by `python -m cvx`, and where its flags stand as the fields of a class."""
every_document = pytest.mark.parametrize("doc", DOCS, ids=lambda doc: str(doc.relative_to(ROOT)))


def shell_lines(doc):
    """Return the commands of a document's shell blocks: continued lines joined, loops and comments taken off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", doc.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [part.strip() for line in lines for part in re.split(r"\s#\s.*$|;|&&", line)]
    return [command.removeprefix("do ") for command in commands if command]


def inline_code(doc):
    """Return what stands between single backquotes outside of blocks."""
    text = re.sub(r"^```.*?^```", "", doc.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def command_of(line):
    """Return which program a line starts, as `flags_of` takes it; nothing where it is not one of cvx's."""
    if found := re.search(r"(?:python|torchrun\b.*?) -m cvx ([a-z]\w*)", line):
        return found[1]
    return next((start for start in SCRIPTS if start in line), None)


@functools.cache
def flags_of(command):
    """Return the flags of a command as `--help` lists them, or of a script as the fields of its flags."""
    if command in SCRIPTS:
        tree = ast.parse((ROOT / SCRIPTS[command]).read_text(encoding="utf-8"))
        [fields] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Flags")]
        return {field.target.id for field in fields if isinstance(field, ast.AnnAssign)} | {"help"}
    command = {"pipeline": "train"}.get(command, command)  # it takes a training's flags
    return set(re.findall(r"--([a-z]\w*)", said_by_help(command)))


def said_by_help(command):
    """Return what `python -m cvx COMMAND --help` prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return said.getvalue()


def flags_in(text):
    """Return the names of the flags in a line, written as fields are; torchrun's own come before `-m`."""
    return {flag.replace("-", "_") for flag in re.findall(r"(?<![\w-])--([a-z][\w-]*)", text.rpartition(" -m cvx")[2])}


def slug(heading):
    """Return the anchor that a heading of Markdown gets."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@every_document
def test_every_path_and_link_in_a_document_exists(doc):
    text = doc.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:cvx|demo|configs|tests|artifacts|sweeps|docs)/[\w./-]+\.\w+)`", text)
    missing = [link for link in links if not (doc.parent / link.partition("#")[0]).exists()]
    missing += [path for path in paths if not (ROOT / path).exists() and "<" not in path]
    assert missing == []


@every_document
def test_every_link_into_a_page_leads_to_a_heading(doc):
    lost = []
    for link in re.findall(r"\]\(([^)]+#[^)]+)\)", doc.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        if "://" not in link:
            text = (doc.parent / file if file else doc).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            lost += [link] if anchor not in map(slug, headings) else []
    assert lost == []


@every_document
def test_every_command_in_a_document_exists(doc):
    named = re.findall(r"python -m cvx (\w+)", doc.read_text(encoding="utf-8"))
    assert set(named) <= set(COMMANDS)


@every_document
def test_every_preset_and_sweep_of_a_command_exists(doc):
    words = [word for line in shell_lines(doc) + inline_code(doc) for word in re.split(r"[\s=]", line)]
    files = [word for word in words if re.match(r"(configs|sweeps)/[^<…]+\.yaml$", word)]
    assert [file for file in files if not list(ROOT.glob(file))] == []


@every_document
def test_every_flag_of_a_command_in_a_document_exists(doc):
    lines = [line for line in shell_lines(doc) + inline_code(doc) if command_of(line)]
    unknown = {line: flags_in(line) - flags_of(command_of(line)) for line in lines}
    assert {line: flags for line, flags in unknown.items() if flags} == {}


@pytest.mark.parametrize("doc", [README, *PAGES], ids=lambda doc: str(doc.relative_to(ROOT)))
def test_every_flag_named_alone_is_one_of_some_command(doc):
    known = {flag for command in (*COMMANDS, *SCRIPTS) for flag in flags_of(command)}
    alone = [code for code in inline_code(doc) if code.startswith("--")]
    assert [code for code in alone if not flags_in(code) <= known] == []


@every_document
def test_every_make_target_and_variable_in_a_document_exists(doc):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    lines = [line.split() for line in shell_lines(doc) + inline_code(doc) if line.startswith("make ")]
    for _, *words in lines:
        variables = [word.partition("=")[0] for word in words if "=" in word]
        assert {word for word in words if "=" not in word} <= set(targets), words
        assert [name for name in variables if f"$({name})" not in makefile] == [], words


def test_flags_that_do_not_exist_are_found():
    assert flags_in("python -m cvx train --epoch=3 --image-size=8") - flags_of("train") == {"epoch"}
    assert flags_in("python demo/app.py --root-path=/cvx --ports") - flags_of("python demo/app.py") == {"ports"}
    assert command_of("torchrun --nproc-per-node=2 -m cvx attribute MODEL") == "attribute"
    assert not flags_in("torchrun --nproc-per-node=2 -m cvx attribute MODEL")


def test_the_training_commands_of_the_documents_parse():
    lines = [line for doc in DOCS for line in shell_lines(doc) if command_of(line) == "train"]
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(
            line.partition("cvx train")[2].replace("$seed", "0").replace("configs/", f"{ROOT}/configs/")
        )
        if "--help" not in words:
            parse(words)


def test_every_command_and_dataset_is_listed():
    commands, datasets = INDEX.read_text(encoding="utf-8"), README.read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"`python -m cvx {command}" in commands, command
    for name in (*DATASETS, "folder:PATH", "hub:ORG/NAME"):
        assert f"`{name}`" in datasets, name


def test_the_readme_is_short_and_leads_to_every_page():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert {page.stem for page in PAGES} == {*SUBJECTS, "README"}
    assert [page.name for page in PAGES if f"](docs/{page.name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_opens_with_what_it_is_for_and_an_example(page):
    title, empty, first, *rest = page.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ") and empty == "" and re.match(r"[A-Z\[]", first)
    assert any(line in ("```sh", "```python") for line in rest[:8])


def test_the_two_commands_are_make_targets_and_ci_runs_them():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "test-quick", "check", "setup", "setup-system"} <= set(targets)
    assert "make check test" in (ROOT / ".ci" / "run").read_text()
    assert {"make demo", "make test"} <= set(shell_lines(README))


def test_no_document_names_a_path_of_somebodys_machine():
    for doc in DOCS:
        assert not re.search(r"/(home|root|Users|work)/", doc.read_text()), doc


def test_the_benchmarks_in_short_are_lines_of_the_last_measurement():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    short, _, measured = text.partition("\n## In short\n")[2].partition("\n## ")
    rows = [line for line in short.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 12 and [row for row in rows if f"\n{row} " not in measured] == []


def test_every_path_that_contributing_names_exists():
    named = re.findall(r"`((?:cvx|demo|configs|sweeps|tests|docs|artifacts)/[^`\s]*)`", CONTRIBUTING)
    assert len(named) > 60
    assert [path for path in named if not list(ROOT.glob(re.sub(r"<\w+>", "*", path)))] == []


def test_every_module_that_the_map_names_lies_in_its_package():
    rows = re.findall(r"^\| `((?:cvx|demo)/[\w/]*)` \| (.*)$", CONTRIBUTING, re.MULTILINE)
    named = [ROOT / package / module for package, text in rows for module in re.findall(r"`(\w+\.py)`", text)]
    assert len(named) > 60
    assert [path for path in named if not path.is_file()] == []


def test_contributing_names_every_package():
    packages = [init.parent for top in ("cvx", "demo") for init in (ROOT / top).rglob("__init__.py")]
    named = {f"{package.relative_to(ROOT)}/" for package in packages}
    assert sorted(name for name in named if f"`{name}`" not in CONTRIBUTING) == []


@pytest.mark.parametrize("top", ["cvx", "demo"])
def test_the_map_in_a_packages_docstring_names_what_is_there_and_leaves_nothing_out(top):
    """Each line of the map begins with a module or, with a slash behind it, a package."""
    folder = ROOT / top
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    named = re.findall(r"^    (\w+/?) ", docstring, re.MULTILINE)
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    packages = {f"{init.parent.name}/" for init in folder.glob("*/__init__.py")}
    assert sorted(named) == sorted(modules | packages)
