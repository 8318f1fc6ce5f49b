"""No personal data reaches a log, however it is thrown at it."""

import ast
import json
import logging
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import TypeGuard

import pytest
import structlog

from ehr.ops.logging import ALLOWED, configure

CANARY = "NGUYEN-THI-CANARY-001099012345"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[StringIO]:
    out = StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure("DEBUG", "json")
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _fail(name: str) -> None:
    text = f"duplicate key ({name}) already exists"
    raise ValueError(text)


def test_a_canary_in_every_place_of_a_log_call_is_not_written(lines: StringIO) -> None:
    log = structlog.get_logger()
    log.info("stored", patient=CANARY, name=CANARY, request_id="r-1", count=3)
    with structlog.contextvars.bound_contextvars(identifier=CANARY):
        log.warning("seen", kind=object(), state={"name": CANARY}, exception=[object()])
    try:
        try:
            _fail(CANARY)
        except ValueError as error:
            raise LookupError(CANARY) from error
    except LookupError:
        log.exception("failed")
        log.error("failed", exc_info=True)
        logging.getLogger("asyncio").exception("Task exception was never retrieved: %s", CANARY)
        logging.getLogger("asyncpg").error(f"statement failed: {CANARY}")
        logging.getLogger("uvicorn.error").error("lost %s", CANARY)
        logging.getLogger("uvicorn.access").info('127.0.0.1 - "GET /fhir/Patient?name=%s"', CANARY)
    written = lines.getvalue()
    assert CANARY not in written
    assert len(written.splitlines()) == 7


def test_what_is_allowed_is_written_and_what_was_dropped_is_named(lines: StringIO) -> None:
    structlog.get_logger().info("stored", patient="x", request_id="r-1", count=3)
    line = json.loads(lines.getvalue())
    assert line["event"] == "stored"
    assert line["level"] == "info"
    assert (line["request_id"], line["count"], line["dropped"]) == ("r-1", 3, ["patient"])


def test_an_error_is_told_by_its_class_and_its_places(lines: StringIO) -> None:
    try:
        _fail("x")
    except ValueError:
        structlog.get_logger().error("failed", exc_info=True)
    line = json.loads(lines.getvalue())
    assert line["error"] == "ValueError"
    assert any("_fail" in place for place in line["exception"])


def test_a_library_with_templates_keeps_its_template(lines: StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    assert json.loads(lines.getvalue())["event"] == "Started server process [%d]"


def test_no_allowed_key_is_a_word_for_a_person() -> None:
    personal = {"name", "patient", "person", "person_id", "identifier", "cccd", "address", "phone", "birth_date"}
    assert not ALLOWED & personal


@pytest.mark.parametrize(("level", "told"), [("INFO", 0), ("DEBUG", 1)])
def test_the_news_of_libraries_is_for_developers(
    lines: StringIO, monkeypatch: pytest.MonkeyPatch, level: str, told: int
) -> None:
    """Celery's clock alone says three lines a second; what goes wrong still shows."""
    monkeypatch.setattr(sys, "stderr", lines)
    configure(level, "json")
    logging.getLogger("celery.beat").info("Scheduler: Sending due task %s (%s)", "drain", "drain")
    assert len(lines.getvalue().splitlines()) == told
    logging.getLogger("celery.beat").warning("lost")
    assert len(lines.getvalue().splitlines()) == told + 1


def test_our_own_calls_use_allowed_keys() -> None:
    """A key that is dropped is a line that says nothing."""
    root = Path(__file__).resolve().parents[2]
    dropped, seen = [], 0
    for path in (path for room in ("ehr", "adapters", "sync", "terminology") for path in (root / room).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if not _logs(call):
                continue
            seen += 1
            keys = {word.arg for word in call.keywords if word.arg is not None} - {"exc_info"}
            dropped += [f"{path.relative_to(root)}:{call.lineno} {key}" for key in sorted(keys - ALLOWED)]
    assert seen > 15, "the calls are found"
    assert not dropped


def _logs(node: ast.AST) -> TypeGuard[ast.Call]:
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in levels
        and ast.unparse(node.func.value) in {"log", "_log"}
    )
