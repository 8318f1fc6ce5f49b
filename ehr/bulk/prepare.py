"""Lines of NDJSON → resources ready to store, or refused with every reason. No I/O: this is the costly part.

In:      one line; the record's extractor
Out:     Ready, or Refusal with issues
Keeps:   the sender's bytes; they are parsed only to be checked and indexed
Rules:   the same codec rules and the same validator as every other door
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from ehr import limits
from ehr.bulk.files import Line
from ehr.bulk.read import careful, is_deep, may_be_deep, quick
from ehr.database import copy
from ehr.errors import EhrError, Invalid, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir.accept import accepts
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.validate import validate
from ehr.ids import FHIR_ID
from ehr.index.extract import Extractor, IndexRows


@dataclass(slots=True)
class Ready:
    """A resource that may be stored. tree is kept for the types whose writes have followers.

    plain    canonical text that begins with type and id and has no meta, as bulk exports write it
    tokens   those of rows, as COPY sends bigint[]
    patient  the source Patient it belongs to
    """

    line: int
    type_name: str
    type_id: int
    id: str
    content: bytes
    plain: bool
    rows: IndexRows
    tokens: bytes
    patient: str | None
    tree: dict[str, Any] | None

    def followed(self) -> dict[str, Any]:
        """The tree with the id it is stored under."""
        assert self.tree is not None, "trees of followed types are kept"
        return {**self.tree, "id": self.id}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not stored. content is None where it was too long to hold."""

    line: int
    content: bytes | None
    issues: tuple[Issue, ...]


class Preparer:
    """Prepares the lines of one part. followed: types whose trees are kept."""

    def __init__(self, extractor: Extractor, *, name: str, job_id: str, followed: Collection[str] = ()) -> None:
        self._extractor, self._followed = extractor, followed
        self._name, self._job_id = name, job_id

    def prepare(self, line: Line) -> Ready | Refusal:
        """Read, check and index one line that is not blank."""
        content = line.content
        try:
            if content is None:
                raise TooMuch(f"the line has more than {limits.ndjson_line_bytes_max} bytes")
            tree, canonical = _checked(content)
        except EhrError as error:
            return Refusal(line.number, content, tuple(error.issues))
        type_name = tree["resourceType"]
        id = tree.get("id") or str(uuid5(UUID(self._job_id), f"{self._name}:{line.number}"))
        rows = self._extractor.extract(tree, type_name, id)
        return Ready(
            line.number,
            type_name,
            TYPE_IDS[type_name],
            id,
            content,
            canonical and "meta" not in tree and _begins_plainly(content, type_name, id),
            rows,
            copy.int8_array(rows.tokens),
            rows.patient,
            tree if type_name in self._followed else None,
        )


def _begins_plainly(content: bytes, type_name: str, id: str) -> bool:
    return content.startswith(b'{"resourceType":"%b","id":"%b",' % (type_name.encode(), id.encode()))


def _checked(content: bytes) -> tuple[dict[str, Any], bool]:
    """The tree of a valid resource, and whether its text is canonical."""
    found = quick(content)
    if found is not None and found[0].__class__ is dict and accepts(found[0], dense=b"{}" not in content):
        tree, canonical = found
        if not may_be_deep(tree["resourceType"], content) or not is_deep(tree, content):
            return tree, canonical
    return _valid(careful(content)), False


def _valid(tree: dict[str, Any]) -> dict[str, Any]:
    """The same tree; refused with every reason."""
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
    return tree
