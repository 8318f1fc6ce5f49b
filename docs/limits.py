"""Write docs/limits.md from ehr/limits.py: `python docs/limits.py > docs/limits.md`. A test compares the two."""

import ast
import itertools
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "ehr" / "limits.py"


def page(source: str) -> str:
    """The page: one row a bound, in the order of the file, with its value and its reason."""
    rows = []
    known: dict[str, float] = {}
    body = ast.parse(source).body
    for constant, reason in itertools.pairwise(body):
        if isinstance(constant, ast.AnnAssign) and isinstance(reason, ast.Expr):
            assert isinstance(constant.target, ast.Name)
            assert constant.value is not None
            assert isinstance(reason.value, ast.Constant)
            value = eval(compile(ast.Expression(constant.value), "limits", "eval"), known)  # noqa: S307 - our own constants
            known[constant.target.id] = value
            rows.append(f"| `{constant.target.id}` | {value:,} | {' '.join(str(reason.value.value).split())} |")
    head = "# Limits\n\nWritten from `ehr/limits.py`. Units end the names.\n\n| limit | value | why |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(SOURCE.read_text(encoding="utf-8")))
