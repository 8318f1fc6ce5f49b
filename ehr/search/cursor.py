"""Where a page begins ↔ the opaque text of a next or previous link.

Out:     base64url of JSON, signed with BLAKE2b keyed by the installation's cursor_key (RFC 7693)
Errors:  BadSearch a cursor that is not ours, was changed, or belongs to another search
Keeps:   the highest rid when the first page was read, so that what is created meanwhile does not enter later pages;
         the total, so that it is counted once
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from ehr.errors import BadSearch
from ehr.search.plan import SearchPlan
from ehr.search.terms import SearchRequest

SIGNATURE_BYTES: Final = 16
SHAPE: Final = frozenset(
    {"_cursor", "_count", "_include", "_revinclude", "_elements", "_summary", "_format", "_pretty"}
)
"""Parameters that change what a page shows, not which rows it is a page of."""


@dataclass(slots=True)
class Walk:
    """How far a walk is in an order that updates change (ehr.search.moved); snapshots as PostgreSQL writes them.

    began  when the first page was read
    seen   changes up to here have been looked at
    upto   changes up to here are being looked at, those of rows above `after`; None: none are left over
    """

    began: str
    seen: str
    upto: str | None = None
    after: int = 0


Place = tuple[int, int]
"""type_id and rid of a resource."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A resource ("Type/id") whose includes are shown page by page, those up to a place already."""

    of: str
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """A page among the includes of one match (ehr.search.include_walk).

    frames  the match, and resources among its includes that are gone into in turn
    more    there are matches after it
    """

    frames: tuple[Frame, ...]
    more: bool


@dataclass(slots=True)
class Cursor:
    """A place between two rows.

    search   hash of the search it belongs to
    forward  the page after this place, or the page before it
    phase    0 rows that have a main date, 1 rows without (ehr.search.order)
    keys     values of the sort keys at this place, as JSON holds them
    rid      the row at this place
    rid_max  rows with a higher rid were made after the first page
    total    counted on the first page, or None
    walk     of a walk forward in an order that updates change
    inside   the includes of the row at this place are not all shown
    """

    search: str
    forward: bool
    phase: Literal[0, 1]
    keys: list[Any]
    rid: int
    rid_max: int
    total: int | None
    walk: Walk | None = None
    inside: Inside | None = None

    def within(self, inside: Inside | None) -> "Cursor":
        """The same place, at the includes of its row."""
        return replace(self, inside=inside)


def search_hash(plan: SearchPlan) -> str:
    """What must be equal for a cursor to be used again."""
    if plan.kept.name is None:
        plan.kept.name = _hash(plan.request, plan.access.person_id)
    return plan.kept.name


def _hash(request: SearchRequest, person_id: str | None) -> str:
    place = (request.compartment.name, request.compartment.id) if request.compartment else None
    pairs = [pair for pair in request.served if pair[0].partition(":")[0] not in SHAPE]
    order = [(key.parameter.code, key.direction) for key in request.sort]
    text = orjson.dumps([request.type_name, place, pairs, person_id, order])
    return hashlib.sha256(text).hexdigest()[:16]


def sealed(cursor: Cursor, key: bytes) -> str:
    content = orjson.dumps(cursor)
    return base64.b64encode(_signature(content, key) + content, b"-_").rstrip(b"=").decode()


def opened(text: str, key: bytes, search: str) -> Cursor:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise BadSearch("this cursor is not one of ours", at="_cursor") from error
    signature, content = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(content, key)):
        raise BadSearch("this cursor is not one of ours", at="_cursor")
    said = orjson.loads(content)
    walk, inside = said.pop("walk", None), said.pop("inside", None)
    cursor = Cursor(**said, walk=None if walk is None else Walk(**walk), inside=inside and _inside(inside))
    if cursor.search != search:
        raise BadSearch("this cursor belongs to another search; start from its first page", at="_cursor")
    return cursor


def _inside(said: dict[str, Any]) -> Inside:
    frames = [Frame(one["of"], one["place"] and tuple(one["place"])) for one in said["frames"]]
    return Inside(tuple(frames), said["more"])


def _signature(content: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(content, key=key, digest_size=SIGNATURE_BYTES).digest()
