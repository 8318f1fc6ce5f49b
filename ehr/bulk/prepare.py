"""Lines of NDJSON → resources ready to store, or refused with every reason. No I/O: this is the costly part.

In:      one line; the record's extractor
Out:     Ready, or Refusal with issues
Keeps:   the sender's bytes; they are parsed only to be checked and indexed
Rules:   the same codec rules and the same validator as every other door
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID, uuid5

from msgspec import Struct

from ehr import limits
from ehr.bulk.files import Line
from ehr.bulk.read import careful, is_deep, quick
from ehr.clock import moment_of
from ehr.database import copy
from ehr.errors import EhrError, Invalid, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir.accept import accepts
from ehr.fhir.accepted_checks import ENDLESS_MET
from ehr.fhir.primitives import INTEGER_MAX
from ehr.fhir.profiles.check import claims
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import nesting
from ehr.ids import FHIR_ID
from ehr.index.extract import Extractor, IndexRows
from ehr.index.ranges import BEGINNING_US, DAY_US, END_US, date_range
from ehr.store import gate

UNKNOWN_US: Final = BEGINNING_US - 1_000 * DAY_US
"""Of a line that does not say when it was last updated: before all that does."""
YIELD_LINES: Final = 200
"""The event loop gets its turn after so many lines: the lease is renewed there."""
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}", re.ASCII)


class Ready(Struct, gc=False):
    """A resource that may be stored. tree is kept for the types whose writes have followers.

    plain    text without needless space that begins with type and id and has no meta, as bulk exports write it
    tokens   those of rows, as COPY sends bigint[]
    meta     as sent
    claims   it, or what lies in it, claims to conform to profiles
    version, updated  what it is stored as, if nothing is there yet; updated None: now
    last_updated_us  as the function of this name has it
    """

    line: int
    type_name: str
    type_id: int
    id: str
    content: bytes
    plain: bool
    rows: IndexRows
    tokens: bytes
    tree: dict[str, Any] | None
    meta: dict[str, Any] | None = None
    claims: bool = False
    last_updated_us: int = UNKNOWN_US
    version: int = 1
    updated: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.type_name, self.id

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

    def __init__(
        self,
        extractor: Extractor,
        *,
        name: str,
        job_id: str,
        followed: Collection[str] = (),
        keep_meta: bool = False,
    ) -> None:
        self._followed, self._keep_meta = followed, keep_meta
        self._name, self._job_id = name, job_id
        self.extractor = extractor.apart()

    def of(self, name: str) -> "Preparer":
        """The same for a part of another file."""
        return Preparer(
            self.extractor, name=name, job_id=self._job_id, followed=self._followed, keep_meta=self._keep_meta
        )

    def prepare(self, line: Line) -> Ready | Refusal:
        """Read, check and index one line that is not blank."""
        content = line.content
        try:
            if content is None:
                raise TooMuch(f"the line has more than {limits.ndjson_line_bytes_max} bytes")
            tree, is_compact, is_canonical = _checked(content)
            if self._keep_meta:
                _check_meta(tree)
        except EhrError as error:
            return Refusal(line.number, content, tuple(error.issues))
        type_name = tree["resourceType"]
        id = tree.get("id") or str(uuid5(UUID(self._job_id), f"{self._name}:{line.number}"))
        rows = self.extractor.extract(tree, type_name, id)
        made = Ready(
            line.number,
            type_name,
            TYPE_IDS[type_name],
            id,
            content,
            is_compact and _is_plain(tree),
            rows,
            copy.int8_array(rows.tokens),
            tree if type_name in self._followed else None,
        )
        if "meta" in tree:
            self._add_meta(made, tree, is_canonical=is_canonical)
        if claims(tree):
            made.claims, made.tree = True, tree
        return made

    def _add_meta(self, made: Ready, tree: dict[str, Any], *, is_canonical: bool) -> None:
        meta = tree["meta"]
        made.meta = careful(made.content)["meta"] if "extension" in meta and not is_canonical else meta
        made.last_updated_us = last_updated_us(tree)
        if self._keep_meta and made.last_updated_us != UNKNOWN_US:
            made.updated = moment_of(made.last_updated_us // 1_000 * 1_000)
        if self._keep_meta and "versionId" in meta:
            made.version = int(meta["versionId"])


def last_updated_us(tree: Mapping[str, Any]) -> int:
    """The sender's meta.lastUpdated, or before all time; also of a line that was not checked."""
    meta = tree.get("meta")
    text = meta.get("lastUpdated") if isinstance(meta, dict) else None
    updated = date_range(text) if isinstance(text, str) else None
    return updated[0] if updated is not None else UNKNOWN_US


def _check_meta(tree: dict[str, Any]) -> None:
    """Versions are counted here, and moments are those of UTC: what is to be kept must be one."""
    meta = tree.get("meta", {})
    version = meta.get("versionId", "1")
    if not _VERSION.fullmatch(version) or int(version) > INTEGER_MAX:
        text = "a versionId that is to be kept is a whole number from 1 on; import the line without keeping it"
        raise Malformed(text, at=f"{tree['resourceType']}.meta.versionId")
    updated_us = last_updated_us(tree)
    if updated_us != UNKNOWN_US and not BEGINNING_US <= updated_us <= END_US:
        text = (
            "a lastUpdated that is to be kept is within the years 1 and 9999 in UTC; import the line without keeping it"
        )
        raise Malformed(text, at=f"{tree['resourceType']}.meta.lastUpdated")


def _is_plain(tree: dict[str, Any]) -> bool:
    """Whether compact text, whose members stand as they do in the tree, is plain (Ready)."""
    return "meta" not in tree and len(tree) > 2 and [*islice(tree, 2)] == ["resourceType", "id"]


def _checked(content: bytes) -> tuple[dict[str, Any], bool, bool]:
    """The tree of a valid resource, and whether its text is compact and canonical, as far as was asked."""
    found = quick(content)
    before = next(ENDLESS_MET)
    if found is not None and found[0].__class__ is dict and accepts(found[0]):
        tree: dict[str, Any] = found[0]
        type_name = tree["resourceType"]
        has_bound = next(ENDLESS_MET) == before + 1 and nesting(type_name) is not None
        if type_name not in gate.OBLIGING and (has_bound or not is_deep(tree, content)):
            return found
    return _valid(careful(content)), False, False


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
    issues = gate.issues(tree, type_name)
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise Invalid("the resource is not valid", issues=issues)
    return tree
