"""The rules of the house: few files a folder, short files, one class a name, docstrings that say what a module does."""

import ast
import builtins
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for top in ("cvx", "demo", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
MODULES = [path for path in FILES if "tests" not in path.relative_to(ROOT).parts]
QUESTIONS = {"What", "How", "Whether", "Which", "When", "Who", "Where"}


def name(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_at_most_eight_modules_stand_beside_the_packages_of_cvx():
    beside = [path.stem for path in (ROOT / "cvx").glob("*.py") if not path.stem.startswith("__")]
    assert len(beside) <= 8, sorted(beside)


def test_no_folder_holds_more_than_twenty_python_files():
    counts = Counter(name(path.parent) for path in FILES)
    assert {folder: num for folder, num in counts.items() if num > 20} == {}


def test_no_file_is_longer_than_400_lines():
    lengths = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: num for path, num in lengths.items() if num > 400} == {}


def test_no_two_public_classes_share_a_name(trees):
    homes = {}
    for path, tree in trees.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name(path))
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}


def test_every_module_says_what_it_does_and_none_begins_with_a_question(trees):
    first = {name(path): (ast.get_docstring(tree) or "").split()[:1] for path, tree in trees.items()}
    assert [path for path, word in first.items() if not word] == []
    assert [path for path, word in first.items() if word[0] in QUESTIONS] == []


def test_no_module_uses_a_name_that_it_nowhere_binds(trees):
    """Neither ruff nor mypy looks: jaxtyping's shapes, which stand in strings, would be undefined names to them."""
    unbound = {name(path): sorted(loaded(tree) - bound(tree) - set(dir(builtins))) for path, tree in trees.items()}
    assert {path: names for path, names in unbound.items() if names} == {}


def test_no_modules_import_each_other_in_a_ring(trees):
    modules = {module(path) for path in trees}
    assert ring({module(path): from_imports(tree) & modules for path, tree in trees.items()}) == []


def module(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def from_imports(tree):
    """Name what a module imports when it is itself imported: at its top level, and not for types alone."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def loaded(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def bound(tree):
    names = {"__file__", "__name__"}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names.add(other or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
    return names


def ring(imports):
    """Return modules that import each other in a ring, or nothing; a package and what lies in it count as one step."""
    state, way = {}, []

    def visit(name):
        state[name] = "open"
        way.append(name)
        for other in sorted(imports[name]):
            if name.startswith(f"{other}.") or other == name:  # the package is being imported by then
                continue
            if state.get(other) == "open":
                return [*way[way.index(other) :], other]
            if other not in state and (found := visit(other)):
                return found
        way.pop()
        state[name] = "done"
        return []

    return next((found for name in sorted(imports) if name not in state and (found := visit(name))), [])
