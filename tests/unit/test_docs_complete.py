"""The documents name every limit, every setting and every phrase, and nothing that is not there."""

import ast
import re
import runpy
from pathlib import Path

from ehr.settings import Settings
from ehr.web.phrases import PHRASES

ROOT = Path(__file__).parents[2]


def test_limits_page_is_written_from_the_limits() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "limits.py"))["page"]
    source = (ROOT / "ehr" / "limits.py").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "limits.md").read_text(encoding="utf-8") == page(source)


def test_every_limit_is_used() -> None:
    names = {
        node.target.id
        for node in ast.parse((ROOT / "ehr" / "limits.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    code = "".join(
        path.read_text(encoding="utf-8")
        for room in ("ehr", "adapters", "sync", "terminology")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "limits.py"
    )
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", code)) == []


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    missing = [name for name in Settings.model_fields if f"`EHR_{name.upper()}`" not in text]
    assert missing == []


def test_every_phrase_is_said_and_every_phrase_said_is_known() -> None:
    web = ROOT / "ehr" / "web"
    text = "".join(p.read_text(encoding="utf-8") for p in [*web.rglob("*.html"), *web.glob("*.py")])
    said = set(re.findall(r'\bt\("(\w+)"\)', text))
    assert said - PHRASES.keys() == set()
    quoted = {key for key in PHRASES if f'"{key}"' in text.replace(f'"{key}": (', "")}
    computed = {key for key in PHRASES if key.startswith(("action_", "purpose_"))}
    assert PHRASES.keys() - quoted - computed == set()
