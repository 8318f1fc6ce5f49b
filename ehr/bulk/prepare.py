"""Lines of NDJSON → resources ready to store, or refused with every reason. No I/O: this is the costly part.

In:      one line; the record's extractor
Out:     Ready, or Refused with issues
Keeps:   the sender's bytes; they are parsed only to be checked and indexed
Rules:   the same codec rules and the same validator as every other door
Cost:    the codec's careful reader takes 20 µs a resource; here orjson reads and writes it again (7 µs). Text that
         comes out as it went in has no key twice, and is as canonical as bulk exports are. The careful reader gets
         what could break one of its rules: a key twice, U+0000, nesting over the limit
"""

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from ehr import limits
from ehr.bulk.files import Line
from ehr.errors import EhrError, Invalid, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir import codec
from ehr.fhir.accept import accepts
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import nesting
from ehr.fhir.validate import validate
from ehr.ids import FHIR_ID
from ehr.index.extract import Extractor, IndexRows

_SPACE_BEFORE_COLON: Final = re.compile(rb'"[ \t\r]+:')
_NEAR_DEPTH: Final = b"\n" + b"  " * limits.json_depth_max
"""Where orjson indents by two, this comes before members at the depth limit; a string holds no bare newline."""


@dataclass(slots=True)
class Ready:
    """A resource that may be stored. tree is kept for the types whose writes have followers.

    canonical   the text is what orjson writes: no space, no escape, no digit too many
    """

    line: int
    type_name: str
    id: str
    content: bytes
    canonical: bool
    meta: bool
    rows: IndexRows
    tree: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not stored. content is None where it was too long to hold."""

    line: int
    content: bytes | None
    issues: tuple[Issue, ...]


def prepare(line: Line, extractor: Extractor, *, name: str, job_id: str, followed: frozenset[str]) -> Ready | Refusal:
    """Read, check and index one line that is not blank."""
    try:
        if line.content is None:
            raise TooMuch(f"the line has more than {limits.ndjson_line_bytes_max} bytes")
        tree, written = _read(line.content)
        tree, type_name = _checked(tree, line.content, written)
        id = tree.get("id") or str(uuid5(UUID(job_id), f"{name}:{line.number}"))
        rows = extractor.extract(tree, type_name, id)
    except EhrError as error:
        return Refusal(line.number, line.content, tuple(error.issues))
    kept = tree if type_name in followed else None
    return Ready(line.number, type_name, id, line.content, written == line.content, "meta" in tree, rows, kept)


def read(content: bytes) -> dict[str, Any]:
    """The tree of one resource, by the rules of ehr.fhir.codec."""
    tree, _ = _read(content)
    return _careful(content) if _is_deep(tree, content) else tree


def _careful(content: bytes) -> dict[str, Any]:
    return codec.loads(content, bytes_max=limits.ndjson_line_bytes_max)


def _read(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The tree, and its text written anew; None of the codec's rules is left to ask but the nesting."""
    try:
        tree = orjson.loads(content)
        written = orjson.dumps(tree)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return _careful(content), b""
    if tree.__class__ is not dict or _has_nul(content) or (written != content and _may_repeat(content, written)):
        return _careful(content), b""
    return tree, written


def _has_nul(content: bytes) -> bool:
    return b"\\" in content and b"\\u0000" in content


def _may_repeat(content: bytes, written: bytes) -> bool:
    """Whether a key may have come twice: it is in the text and not in the tree, which has one `":` less then."""
    if written.count(b'":') != content.count(b'":'):
        return True
    return len(written) != len(content) and _SPACE_BEFORE_COLON.search(content) is not None


def _is_deep(tree: dict[str, Any], content: bytes) -> bool:
    if content.count(b"{") + content.count(b"[") <= limits.json_depth_max:
        return False
    return _NEAR_DEPTH in orjson.dumps(tree, option=orjson.OPT_INDENT_2)


def body_of(ready: Ready, *, updated_text: bytes) -> bytes | None:
    """The bytes of version 1 as codec.with_meta would make them; None where only the codec can.

    A canonical line that begins with type and id and has no meta, as bulk exports write it, needs one insertion.
    """
    content = ready.content
    if ready.meta or not ready.canonical:
        return None
    head = b'{"resourceType":"%b","id":"%b",' % (ready.type_name.encode(), ready.id.encode())
    if not content.startswith(head) or not content.endswith(b"}"):
        return None
    return b'%b"meta":{"versionId":"1","lastUpdated":"%b"},%b' % (head, updated_text, content[len(head) :])


def _checked(tree: dict[str, Any], content: bytes, written: bytes) -> tuple[dict[str, Any], str]:
    """The tree and its type; the tree of the careful reader where the quick one cannot be sure of it."""
    if (
        written
        and accepts(tree, dense=b"{}" not in written)
        and (_is_shallow(tree, written) or not _is_deep(tree, content))
    ):
        return tree, tree["resourceType"]
    tree = _careful(content)
    type_name = tree.get("resourceType")
    if not isinstance(type_name, str):
        raise Malformed("a line is one resource, with its resourceType", at="resourceType")
    if type_name not in TYPE_IDS:
        raise NotSupported(f"{type_name[:64]} is not a resource type of FHIR R4", at="resourceType")
    given = tree.get("id")
    if given is not None and not (isinstance(given, str) and FHIR_ID.fullmatch(given)):
        raise Malformed("an id has 1 to 64 of A-Z a-z 0-9 - .", at=f"{type_name}.id")
    issues = validate(tree, type_name=type_name)
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise Invalid("the resource is not valid", issues=issues)
    return tree, type_name


def _is_shallow(tree: dict[str, Any], written: bytes) -> bool:
    """Whether a valid resource cannot nest too deep: nothing in it could nest for ever (structure.ENDLESS)."""
    if b'xtension"' in written or b'"assigner"' in written:
        return False
    types = [tree["resourceType"], *(inner["resourceType"] for inner in tree.get("contained", ()))]
    return all(nesting(type_name) is not None for type_name in types)
