"""The documents name every limit, setting, phrase, decision and table, and no module that is not there."""

import ast
import re
import runpy
from pathlib import Path

from ehr.database import index_tables, job_tables, sync_tables, tables
from ehr.settings import Settings
from ehr.web.phrases import PHRASES
from terminology import tables as terminology_tables

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
    used = {
        word
        for room in ("ehr", "adapters", "sync", "terminology")
        for path in (ROOT / room).rglob("*.py")
        if path.name != "limits.py"
        for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
    }
    assert sorted(names - used) == []


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
    computed = {key for key in PHRASES if key.startswith(("action_", "purpose_", "sex_", "status_"))}
    assert PHRASES.keys() - quoted - computed == set()


def test_every_decision_is_listed_under_its_title() -> None:
    folder = ROOT / "docs" / "adr"
    listed = re.findall(
        r"^- \[(\d{4})\]\((\S+)\) (.+)$", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    files = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    heads = [path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ").split(" ", 1) for path in files]
    assert listed == [(number, path.name, title) for path, (number, title) in zip(files, heads, strict=True)]


def test_the_map_of_the_code_is_true() -> None:
    """Every path it names is there, and every table of the database stands on it."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:ehr|adapters|sync|terminology)/[\w/]*(?:\.py)?)`", text)
    assert len(named) > 40
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
    others = (job_tables.job, sync_tables.sync_batch, index_tables.contained)
    record = {*tables.metadata.tables, *(name for one in others for name in one.metadata.tables)}
    every = record | {*terminology_tables.metadata.tables}
    assert sorted(name for name in every if f"`{name}`" not in text) == []
