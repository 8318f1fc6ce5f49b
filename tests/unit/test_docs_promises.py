"""The page of promises names only files that are there, and every promise has its test."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
FILES = re.compile(r"`((?:\w+/)+\w+\.py)`")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(start: str) -> list[list[str]]:
    """The rows of the table whose first column begins so."""
    return [cells(line) for line in PAGE.splitlines() if line.startswith(f"| {start}")]


def test_every_place_is_there() -> None:
    named = FILES.findall(PAGE)
    assert len(named) > 80
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "tests" / name).exists()]
    assert missing == []


def test_every_promise_has_a_place_and_a_test() -> None:
    promises = rows("P")
    assert [row[0] for row in promises] == [f"P{number}" for number in range(1, 15)]
    for name, _, kept, shown in promises:
        assert all((ROOT / one).is_file() for one in FILES.findall(kept)), name
        assert FILES.findall(kept), name
        tests = FILES.findall(shown)
        assert tests, name
        assert all((ROOT / "tests" / one).is_file() for one in tests), name
