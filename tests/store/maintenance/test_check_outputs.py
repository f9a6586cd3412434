"""What the doctor reads as people's programs do: tables with any text in their cells, and files that are not yet whole."""

import pytest
from kept_store import make_kept_store

from cvx.comparison.tables import write_table
from cvx.store.maintenance import examine


@pytest.mark.parametrize("name", ["two\nlines", 'a "quoted", name', "a\u2028b", "a\x0bb", "a\x85b"], ids=ascii)
def test_a_table_is_whole_whatever_its_cells_say_and_cut_short_it_is_named(tmp_path, name):
    flat = [{"class": name, "images": num} for num in range(3)]
    table, _, _ = write_table(tmp_path / "compare" / "classes", flat, ["class", "images"], [[name, "0"]])
    assert list(examine(tmp_path)) == []
    table.write_text("".join(table.read_text(encoding="utf-8").rpartition(",")[::2]), encoding="utf-8")
    (found,) = examine(tmp_path)
    assert found.level == "problem" and found.where == table and "as many cells as its head" in found.what


def test_arguments_that_a_trial_has_not_finished_writing_are_a_note(tmp_path):
    root = make_kept_store(tmp_path / "store").root
    half = root / "sweeps/small/args/.1.json.x7k2.tmp.json"
    half.write_text('{"lr": 0.')
    (found,) = examine(root)
    assert found.level == "note" and found.where == half and "is being written" in found.what
