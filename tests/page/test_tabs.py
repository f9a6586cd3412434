"""A tab's one word in links, titles, classes and scripts, and the words that links had for it before."""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import page, tabs
from demo.components.controls import event_data
from demo.page import LATER_TABS
from demo.state.tab_link import RENAMED, rename_old_tabs
from demo.tabs.compare import CompareTab

DEMO = Path(page.__file__).parent
TABS = (CompareTab, *LATER_TABS)
TITLES = ["Compare", "Class view", "Training film", "Embeddings", "Runs", "Agreement", "About"]


def test_a_tab_has_one_word_in_link_module_class_and_script():
    script = (DEMO / "static" / "page.js").read_text(encoding="utf-8")
    assert re.search(r"const tabs = (\[.*\]);", script)[1].replace("'", '"') == json.dumps([tab.name for tab in TABS])
    modules = {file.stem for file in Path(tabs.__file__).parent.glob("*.py")} - {"__init__", "base"}
    assert modules == {tab.name for tab in TABS}
    for tab in TABS:
        assert tab.__module__ == f"demo.tabs.{tab.name}" and tab.__name__ == f"{tab.name.title()}Tab"
    assert [tab.title for tab in TABS] == TITLES


def test_server_and_browser_know_the_same_old_names():
    script = (DEMO / "static" / "page.js").read_text(encoding="utf-8")
    said = re.search(r"const renamed = \{ (.*) \};", script)[1]
    assert dict(re.findall(r"(\w+): '(\w+)'", said)) == RENAMED


def test_an_old_link_says_what_the_new_one_says():
    old = parse_qsl("tab=points&points.run=a&points.layout=umap&image.points=3&datasets=points")
    new = parse_qsl("tab=embeddings&embeddings.run=a&embeddings.layout=umap&image.points=3&datasets=points")
    assert rename_old_tabs(old) == new == rename_old_tabs(new)


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8))))
def test_a_link_without_old_names_stays_as_it_is(pairs):
    kept = [(key, value) for key, value in pairs if key.partition(".")[0] not in RENAMED and value not in RENAMED]
    assert rename_old_tabs(kept) == kept


BUILT = """
import json, sys
from pathlib import Path
from demo.page import Page
from demo.state.tab_link import TabLink, rename_old_tabs

page = Page(Path(sys.argv[1]))
(embeddings,) = [tab for _, tab in page.later if tab.name == "embeddings"]
opened = {}
for word in ("points", "embeddings"):
    filled = page._fill_from_link(f"tab={word}&{word}.dataset=tiles&{word}.layout=umap&{word}.color=correct")
    link = TabLink("embeddings", rename_old_tabs([(f"{word}.layout", "umap"), (f"{word}.color", "correct")]))
    opened[word] = [[value for value in filled if isinstance(value, str)], embeddings.fill(link)[2:]]
leads = [tab.name for _, tab in page.later if tab.image_source is not None]
queues = {tab.name: tab.queue["concurrency_limit"] for _, tab in page.later}
print(json.dumps([opened, leads, queues]))
"""


@pytest.fixture(scope="module")
def built(store):
    """What a whole page says, built in a process of its own: it leaves event loops behind in one."""
    command = [sys.executable, "-c", BUILT, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DEMO.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("word", ["points", "embeddings"])
def test_an_old_link_opens_the_tab_with_what_was_chosen(built, word):
    filled, said = built[0][word]
    assert "embeddings" in filled
    assert said == ["umap", "correct"] and all(value in filled for value in said)


def test_tabs_that_lead_to_compare_and_the_tab_that_takes_minutes_say_so_themselves(built):
    _, leads, queues = built
    assert leads == ["embeddings", "agreement"]
    assert [name for name, at_once in queues.items() if at_once == 1] == ["agreement"]


def test_gradio_s_private_event_data_is_read_in_one_place():
    readers = [file.name for file in DEMO.rglob("*.py") if "event._data" in file.read_text(encoding="utf-8")]
    assert readers == ["controls.py"]


@pytest.mark.parametrize(("sent", "read"), [({"row": 1}, {"row": 1}), (None, {}), ([1], {}), ("x", {})])
def test_what_no_script_of_the_page_sends_is_read_as_nothing(sent, read):
    from gradio import EventData

    assert event_data(EventData(None, sent)) == read
