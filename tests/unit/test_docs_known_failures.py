"""The page of known failures has all of them, each with a test that is there, or with the reason why it has none."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs" / "known-failures.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| \d", line)
]
NAMED = re.compile(r"`(\w+/\w+\.py)((?:::\w+)*)`")
REASONS = ("Cannot apply", "Not built")


def test_every_failure_is_there_with_its_source() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, 46)]
    assert all(re.search(r"\]\(https://github\.com/\S+\)", row[1]) for row in ROWS)


def test_every_failure_has_a_test_that_is_there_or_a_reason() -> None:
    for number, _, here in ROWS:
        named = NAMED.findall(here)
        tests = [one for one in named if one[0].partition("/")[0] != "benchmarks"]
        assert tests or here.startswith(REASONS), number
        for file, names in named:
            folder = ROOT if file.startswith("benchmarks/") else ROOT / "tests"
            assert (folder / file).is_file(), file
            assert is_defined(folder / file, names.split("::")[1:]), (number, file, names)


def is_defined(file: Path, names: list[str]) -> bool:
    """The classes and the function of a test's name, one inside the other."""
    body = parsed(file).body
    for name in names:
        found = [
            node
            for node in body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
        ]
        if not found:
            return False
        body = found[0].body
    return True


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
