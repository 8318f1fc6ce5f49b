"""Lines of NDJSON → resources ready to store, or refused with every reason. No I/O: this is the costly part.

In:      one line; the record's extractor
Out:     Ready, or Refused with issues
Keeps:   the sender's bytes; they are parsed only to be checked and indexed
Rules:   the same codec rules and the same validator as every other door
Cost:    the codec's careful reader takes 20 µs a resource; here orjson reads (5 µs), and the careful one only what
         could break one of its rules: a key twice, U+0000, nesting over the limit
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
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.validate import validate
from ehr.ids import FHIR_ID
from ehr.index.extract import Extractor, IndexRows

_SPACE_BEFORE_COLON: Final = re.compile(rb'"[ \t\r]+:')
_NEAR_DEPTH: Final = b"\n" + b"  " * limits.json_depth_max
"""Where orjson indents by two, this comes before members at the depth limit; a string holds no bare newline."""


@dataclass(slots=True)
class Ready:
    """A resource that may be stored. tree is kept for the types whose writes have followers."""

    line: int
    type_name: str
    id: str
    content: bytes
    compact: bool
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
        tree, compact = _read(line.content)
        type_name = _checked(tree)
        id = tree.get("id") or str(uuid5(UUID(job_id), f"{name}:{line.number}"))
        rows = extractor.extract(tree, type_name, id)
    except EhrError as error:
        return Refusal(line.number, line.content, tuple(error.issues))
    kept = tree if type_name in followed else None
    return Ready(line.number, type_name, id, line.content, compact, "meta" in tree, rows, kept)


def read(content: bytes) -> dict[str, Any]:
    """The tree of one resource, by the rules of ehr.fhir.codec."""
    return _read(content)[0]


def _read(content: bytes) -> tuple[dict[str, Any], bool]:
    """The tree, and whether the text is compact: as long as the tree written again without spaces."""
    try:
        tree = orjson.loads(content)
    except orjson.JSONDecodeError:
        return codec.loads(content, bytes_max=limits.ndjson_line_bytes_max), False
    written = orjson.dumps(tree)
    if tree.__class__ is not dict or b"\\u0000" in content or _doubtful(content, tree, written):
        return codec.loads(content, bytes_max=limits.ndjson_line_bytes_max), False
    return tree, len(written) == len(content)


def _doubtful(content: bytes, tree: dict[str, Any], written: bytes) -> bool:
    """Whether a key may have come twice, or the nesting may be too deep.

    A key that came twice is in the text and not in the tree: written again, the tree has one `":` less.
    """
    if written.count(b'":') != content.count(b'":'):
        return True
    if len(written) != len(content) and _SPACE_BEFORE_COLON.search(content):
        return True
    if content.count(b"{") + content.count(b"[") <= limits.json_depth_max:
        return False
    return _NEAR_DEPTH in orjson.dumps(tree, option=orjson.OPT_INDENT_2)


def body_of(ready: Ready, *, updated_text: bytes) -> bytes | None:
    """The bytes of version 1 as codec.with_meta would make them; None where only the codec can.

    A compact line that begins with type and id and has no meta, as bulk exports write it, needs one insertion.
    """
    content = ready.content
    if ready.meta or not ready.compact:
        return None
    head = b'{"resourceType":"%b","id":"%b",' % (ready.type_name.encode(), ready.id.encode())
    if not content.startswith(head) or not content.endswith(b"}"):
        return None
    return b'%b"meta":{"versionId":"1","lastUpdated":"%b"},%b' % (head, updated_text, content[len(head) :])


def _checked(tree: dict[str, Any]) -> str:
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
    return type_name
