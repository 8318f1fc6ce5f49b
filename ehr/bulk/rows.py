"""Ready resources → binary COPY contents of resource and its side tables. Pure but for the codec's frames.

Cost:    the database's half of an import is small (15 % of the work); this encoding is what the client adds to it
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Final

from ehr.bulk.prepare import Ready
from ehr.clock import instant, us_of
from ehr.database import copy
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.contained import rid_of
from ehr.index.extract import Contained, IndexRows
from ehr.index.write import COLUMNS
from ehr.store.body import BodyCodec

RESOURCE: Final = (
    "type_id", "rid", "shard", "version", "updated", "source", "id", "date_lo_us", "date_hi_us", "tokens", "body",
)  # fmt: skip
CONTAINED: Final = (
    "rid", "type_id", "shard", "container_type", "updated", "date_lo_us", "date_hi_us", "id", "tokens",
)  # fmt: skip

_FIXED: Final = ("int2", "int8", "int8", "int4", "int8", "int4")
_HEAD_BYTES: Final = len(b'{"resourceType":"","id":"",')

_string_head = copy.fixed("int4", columns=4)
_string_tail = copy.fixed("int8", "int8")
_date = copy.fixed("int4", "int8", "int8", "int8", "int8", columns=5)
_quantity = copy.fixed("int4", "float8", "int8", "int8", "int8", "int8", columns=6)


@cache
def _packer(id_bytes: int, *, dated: bool) -> Callable[..., bytes]:
    """The row of resource up to its tokens."""
    dates = ("int8", "int8") if dated else (None, None)
    return copy.fixed(*_FIXED, id_bytes, *dates, columns=len(RESOURCE))


@cache
def _contained_packer(id_bytes: int, *, dated: bool) -> Callable[..., bytes]:
    """The row of contained up to its tokens."""
    dates = ("int8", "int8") if dated else (None, None)
    return copy.fixed("int8", "int2", "int8", "int2", "int8", *dates, id_bytes, columns=len(CONTAINED))


class FirstVersions:
    """The bytes of first versions that are stored at one moment, as codec.with_meta makes them."""

    def __init__(self, updated: datetime) -> None:
        self._updated = updated
        self._meta = b'"meta":{"versionId":"1","lastUpdated":"%b"},' % instant(updated).encode()

    def body(self, one: Ready) -> bytes:
        content = one.content
        if one.plain:  # nothing comes before the meta but type and id
            head = _HEAD_BYTES + len(one.type_name) + len(one.id)
            return b"".join((content[:head], self._meta, content[head:]))
        updated = one.updated or self._updated
        return codec.with_meta(content, {"meta": one.meta}, id=one.id, version=one.version, updated=updated)


class Encoder:
    """Collects the rows of one transaction."""

    def __init__(self, bodies: BodyCodec, updated: datetime, source: int) -> None:
        self._bodies, self._source = bodies, source
        self._versions = FirstVersions(updated)
        self._moment = copy.moment(us_of(updated))
        self._resources: list[bytes] = []
        self._contained: list[bytes] = []
        self._strings: list[bytes] = []
        self._dates: list[bytes] = []
        self._quantities: list[bytes] = []

    def add(self, rid: int, one: Ready) -> None:
        index, type_id, id = one.rows, one.type_id, one.id.encode()
        shard, low, high = index.shard, index.date_lo_us, index.date_hi_us
        dates = () if low is None or high is None else (low, high)
        head = _packer(len(id), dated=bool(dates))
        moment = self._moment if one.updated is None else copy.moment(one.last_updated_us // 1_000 * 1_000)
        frame = self._bodies.compress(type_id, self._versions.body(one))
        self._resources += (
            head(type_id, rid, shard, one.version, moment, self._source, id, *dates),
            copy.length(one.tokens),
            one.tokens,
            copy.length(frame),
            frame,
        )
        if index.strings or index.dates or index.quantities:
            self._add_beside(rid, shard, index)
        for inside in index.contained:
            self._add_contained(rid_of(rid, inside.place), type_id, moment, inside)

    def _add_contained(self, rid: int, container_type: int, moment: int, inside: Contained) -> None:
        index, id = inside.rows, inside.id.encode()
        low, high, tokens = index.date_lo_us, index.date_hi_us, copy.int8_array(index.tokens)
        dates = () if low is None or high is None else (low, high)
        head = _contained_packer(len(id), dated=bool(dates))
        type_id = TYPE_IDS[inside.type_name]
        self._contained += (head(rid, type_id, index.shard, container_type, moment, *dates, id), copy.variable(tokens))
        self._add_beside(rid, index.shard, index)

    def _add_beside(self, rid: int, shard: int, index: IndexRows) -> None:
        tail = _string_tail(rid, shard)
        for param_id, value in index.strings:
            self._strings += (_string_head(param_id), copy.variable(value.encode()), tail)
        for param_id, low, high in index.dates:
            self._dates.append(_date(param_id, low, high, rid, shard))
        for param_id, number, code, system in index.quantities:
            self._quantities.append(_quantity(param_id, number, code, system, rid, shard))

    def tables(self) -> Iterator[tuple[str, tuple[str, ...], bytes]]:
        """(table, columns, content) of each table that gets rows; resource first, because there a race shows."""
        contents = {
            "resource": (RESOURCE, self._resources),
            "string_index": (COLUMNS["string_index"], self._strings),
            "date_index": (COLUMNS["date_index"], self._dates),
            "quantity_index": (COLUMNS["quantity_index"], self._quantities),
            "contained": (CONTAINED, self._contained),
        }
        for table, (columns, pieces) in contents.items():
            if pieces:
                yield table, columns, b"".join((copy.HEADER, *pieces, copy.TRAILER))
