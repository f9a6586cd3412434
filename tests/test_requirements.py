"""What pyproject.toml and requirements.txt declare is what the code needs, and the files beside them are of one version."""

import ast
import re
import sys
from importlib import metadata

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from small_store import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def extra():
    return [Requirement(one) for one in PROJECT["project"]["optional-dependencies"]["dev"]]


def names(needed):
    return {canonicalize_name(one.name) for one in needed}


def imported(*folders):
    """Return the distributions that a folder's files import, each by its names (several share some packages)."""
    trees = [ast.parse(file.read_text()) for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {one.name for node in nodes if isinstance(node, ast.Import) for one in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    tops = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"cvx", "demo"}
    brings = metadata.packages_distributions()
    return {top: {canonicalize_name(name) for name in brings[top]} for top in tops if top in brings}


def brought(needed):
    """Return what the requirements themselves require, with the extras that are asked for."""
    pairs = [(Requirement(line), one.extras) for one in needed for line in metadata.requires(one.name) or []]
    return names(one for one, extras in pairs if _holds(one.marker, extras))


def _holds(marker, extras):
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def test_what_the_code_imports_is_listed_or_comes_with_what_is_and_nothing_else_is_listed():
    listed, used = names(requirements()), imported("cvx", "demo")
    assert {top for top, owners in used.items() if not owners & (listed | brought(requirements()))} == set()
    assert listed - set().union(*used.values()) == {"torchvision", "pytest"}


def test_the_extra_is_what_tests_import_and_checks_run():
    elsewhere = (ROOT / "Makefile").read_text() + (ROOT / "pyproject.toml").read_text()
    runs = {"ruff": "/ruff check", "mypy": "/mypy\n", "import-linter": "/lint-imports", "types-pyyaml": "/mypy\n"}
    runs |= {"pytest-timeout": "\ntimeout = ", "pytest-xdist": "--numprocesses", "beartype": "beartype.beartype("}
    runs |= {"setuptools": "setuptools.build_meta"}
    assert [name for name, word in runs.items() if word not in elsewhere] == []
    used = set().union(*imported("tests").values())
    assert names(extra()) <= used | set(runs)
    assert used - names(requirements()) - brought(requirements()) - {"opentsne"} <= names(extra())  # a benchmark's peer


# Texts beside the code


def test_the_citation_and_the_changelog_are_of_this_version():
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version and {"cff-version", "message", "title", "authors"} <= set(citation)
    titles = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert version in titles[:2] and titles[-1] == "0.1.0"


def test_git_runs_before_a_commit_what_make_check_runs():
    hooks = [
        one for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for one in repo["hooks"]
    ]
    assert [(hook["entry"], hook["language"], hook["pass_filenames"]) for hook in hooks] == [
        ("make check", "system", False)
    ]
