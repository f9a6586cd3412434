"""The page's style: one sheet for what is shared, one for each component, gathered in an order that does not change."""

from pathlib import Path

import demo
from demo.static import theme

DEMO = Path(demo.__file__).parent


def test_every_style_sheet_is_gathered_once_the_page_s_own_first():
    files = theme.style_files()
    assert sorted(files) == sorted(DEMO.rglob("*.css")) and files[0] == DEMO / "static" / "page.css"
    assert files[1:] == sorted(files[1:])
    assert all(file.read_text(encoding="utf-8") in theme.head() for file in files)


def test_a_component_s_script_style_and_python_lie_in_its_folder():
    for file in [*DEMO.glob("components/*/*.css"), *DEMO.glob("components/*/*.js")]:
        assert (file.parent / f"{file.parent.name}.py").is_file()
        if file.suffix == ".css":
            assert file.stem == file.parent.name


def test_braces_of_every_sheet_are_closed_so_that_none_swallows_the_next():
    for file in theme.style_files():
        text = file.read_text(encoding="utf-8")
        assert text.count("{") == text.count("}") and text.count("/*") == text.count("*/") and text.endswith("\n")


def test_the_package_takes_style_and_scripts_along():
    pyproject = (DEMO.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert 'demo = ["**/*.css", "**/*.js"' in pyproject
