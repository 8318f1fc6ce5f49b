"""What is wrong with an answer, whatever was asked.

Out:     faults(asked, answer, took_s) → what breaks the promise, in words; nothing where it is kept
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx

from ehr import limits
from ehr.api.errors import is_fhir
from ehr.errors import Malformed
from ehr.fhir.xml_reader import to_json
from tests.abuse.request import Asked

ANSWER_S: Final = limits.statement_s + 5
"""No request of these is a large one: what takes longer hangs."""

INSIDE: Final = re.compile(
    r"Traceback \(most|File \"[^\"]+\.py|asyncpg|sqlalchemy|psycopg|SQLSTATE|syntax error at or near"
    r"|invalid input syntax|relation \"|violates |\bselect\s.+\sfrom\s|\binsert into\s"
    r"|\bupdate \w+ set\b|\$\d+::|site-packages",
    re.IGNORECASE | re.DOTALL,
)
"""What belongs to the machine and not to an answer."""

OF_THE_WHOLE: Final = re.compile(
    "a document type declaration|a JSON array is wanted|"
    "not JSON|not well-formed XML|is not UTF-8|a resource type in the namespace|is a JSON object|a control character"
    "|occurs twice in one object|nested deeper|the limit is|too many parameters|the query of"
)
"""Refusals of a body or query as a whole, before there are elements to name."""


def faults(asked: Asked, answer: httpx.Response, took_s: float) -> Iterator[str]:
    if answer.status_code >= 500:
        yield f"status {answer.status_code}"
    if took_s > ANSWER_S:
        yield f"took {took_s:.1f} s"
    if found := INSIDE.search(answer.text):
        yield f"shows its inside: {found[0][:80]!r}"
    if is_fhir(answer.request.url.path) and asked.method != "HEAD":
        if answer.status_code >= 400:
            yield from _refusal(answer)
        elif answer.content and "json" in answer.headers.get("content-type", ""):
            yield from _entries(answer.json())


def _refusal(answer: httpx.Response) -> Iterator[str]:
    """An OperationOutcome whose issues say what is wrong."""
    try:
        tree = json.loads(to_json(answer.content) if "xml" in answer.headers["content-type"] else answer.content)
    except (ValueError, KeyError, Malformed) as error:
        yield f"no OperationOutcome: {error}"
        return
    if tree.get("resourceType") != "OperationOutcome" or not tree.get("issue"):
        yield "no OperationOutcome"
        return
    unplaced = answer.status_code in (400, 413, 422) and not OF_THE_WHOLE.search(answer.text)
    for issue in tree["issue"]:
        if unplaced and not issue.get("expression"):
            yield f"an issue that has no place: {issue}"
        if not (issue.get("severity") and issue.get("code") and (issue.get("diagnostics") or issue.get("details"))):
            yield f"an issue that says nothing: {issue}"


def _entries(tree: Any) -> Iterator[str]:
    """The entries of a batch are answers too."""
    for entry in tree.get("entry", []) if isinstance(tree, dict) else []:
        status = entry.get("response", {}).get("status", "")
        if status.startswith("5"):
            yield f"an entry with status {status}"
