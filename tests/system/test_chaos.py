"""The promises under every fault, in short; ``python -m benchmarks.chaos`` shows them in bulk."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import BEGIN, END, markdown, scenarios, write_page
from tests.support.clips import ROOT
from tests.support.faults.outcome import Outcome

SHORT = scenarios(short=True)


@pytest.mark.parametrize("name", SHORT)
def test_the_promise_holds(name: str, tmp_path: Path) -> None:
    outcome = SHORT[name](tmp_path)
    assert outcome.holds, outcome


def test_the_table_stands_between_its_markers_and_touches_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    outcome = Outcome("a fault", "went on", "everything", 1.23, True)
    write_page(page, [outcome])
    assert page.read_text() == f"before\n{BEGIN}\n{markdown([outcome])}\n{END}\nafter\n"
    assert "| a fault | went on | everything | 1.2 s |" in page.read_text()


def test_the_page_of_the_operator_has_the_table() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    table = text.split(BEGIN)[1].split(END)[0]
    assert table.count("\n") > 15  # a line for each fault
    assert "not kept" not in table
