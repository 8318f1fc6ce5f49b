"""What the conditions of one transaction match, and the rows it will write, locked: all of it in one statement.

In:      exact identifiers (ehr.store.criteria), each with whose resources it may mean; (type, id) pairs to be written;
         claims that were taken already
Out:     Found: the matches of each condition, a Holding of what will be written, the owners of the claims
Order:   the claims of the conditions are held before; then a condition matches what is committed, and stays so
Race:    a match that another writer changed while we waited for its row may match no longer: Raced, all begins anew
Whose:   own    the caller's own resources (all, for the city): what it may change
         refer  likewise, and of types that tell nothing of a patient also the city's, then anybody's
Access:  a confined caller's conditions match only what it sees
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal

from ehr.access.policy import DIRECTORY_TYPES
from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS, TYPE_NAMES
from ehr.store.access_sql import arguments, seen
from ehr.store.claims import Claimed
from ehr.store.criteria import CITY, MATCHES_MAX, Criteria
from ehr.store.faults import Raced
from ehr.store.locks import HELD_COLUMNS, Holding, Key
from ehr.store.version import Version

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

Whose = Literal["own", "refer"]

_FIND: Final = f"""
WITH matched AS MATERIALIZED (
    SELECT w.n, m.* FROM unnest($3::int[], $4::smallint[], $5::bigint[], $6::int[]) AS w(n, type_id, token, source)
    CROSS JOIN LATERAL (
        SELECT r.type_id, r.id, r.rid, r.version, r.updated, r.shard, r.source FROM resource r
        WHERE r.type_id = w.type_id AND r.tokens @> ARRAY[w.token] AND (w.source IS NULL OR r.source = w.source)
          AND {seen("r")} LIMIT {MATCHES_MAX}
    ) m
), wanted AS MATERIALIZED (
    SELECT m.type_id, m.id FROM matched m WHERE m.n = ANY($7::int[])
    UNION SELECT d.type_id, d.id FROM unnest($8::smallint[], $9::text[]) AS d(type_id, id)
), held AS MATERIALIZED (
    SELECT {HELD_COLUMNS} FROM wanted w JOIN resource r ON r.type_id = w.type_id AND r.id = w.id
    ORDER BY r.type_id, r.id FOR UPDATE OF r
)
SELECT 'held' AS what, NULL AS n, h.*, NULL AS op FROM held h
UNION ALL
SELECT 'matched', m.n, m.type_id, m.id, m.rid, m.version, m.updated, m.shard, m.source, NULL, NULL, NULL FROM matched m
UNION ALL
SELECT 'gone', NULL, t.type_id, t.id, t.rid, t.version, t.updated, t.shard, t.source, NULL, NULL, t.op
FROM (SELECT * FROM wanted w WHERE NOT EXISTS (SELECT 1 FROM held h WHERE h.type_id = w.type_id AND h.id = w.id)) a
CROSS JOIN LATERAL (
    SELECT h.* FROM resource_history h WHERE h.type_id = a.type_id AND h.id = a.id ORDER BY h.version DESC LIMIT 1
) t WHERE t.op = 'D'
UNION ALL
SELECT 'owner', NULL, c.type_id, c.key, NULL, NULL, NULL, NULL, c.scope, NULL, c.id, NULL
FROM unnest($10::smallint[], $11::text[]) AS k(type_id, key)
JOIN claim c ON c.scope = $12 AND c.type_id = k.type_id AND c.key = k.key
"""  # noqa: S608 - constants of ours


@dataclass(frozen=True, slots=True)
class Condition:
    """One exact identifier. writes: its match will be written, so it is locked."""

    criteria: Criteria
    whose: Whose
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """A current resource that a condition matches."""

    type_name: str
    id: str
    version: int
    updated: datetime
    rid: int
    shard: int
    source: int

    def as_version(self) -> Version:
        """Without its body."""
        op: Literal["C", "U"] = "C" if self.version == 1 else "U"
        return Version(self.type_name, self.id, self.version, self.updated, op, None, self.rid, self.shard, self.source)


@dataclass(slots=True)
class Found:
    matches: dict[Condition, list[Match]] = field(default_factory=dict)
    holding: Holding = field(default_factory=Holding)
    owners: dict[Claimed, str] = field(default_factory=dict)


def is_exact(criteria: Criteria) -> bool:
    """Whether find can answer it; every other condition is a search."""
    return criteria.identifier is not None and "identifier" in parameters.of(criteria.type_name)


async def find(
    uow: "UnitOfWork", conditions: Iterable[Condition], wanted: Iterable[Key], taken: Sequence[Claimed] = ()
) -> Found:
    found = Found()
    asked = _asked(uow, conditions)
    direct = sorted((TYPE_IDS[name], id) for name, id in set(wanted))
    if not (asked or direct or taken):
        return found
    await uow.plan("once")
    rows = await uow.connection.fetch(
        _FIND,
        *arguments(uow.access),
        list(range(len(asked))),
        [TYPE_IDS[one.condition.criteria.type_name] for one in asked],
        [one.token for one in asked],
        [one.source for one in asked],
        [n for n, one in enumerate(asked) if one.condition.writes],
        [type_id for type_id, _ in direct],
        [id for _, id in direct],
        [TYPE_IDS[name] for name, _ in taken],
        [key for _, key in taken],
        uow.caller.facility_id,
    )
    matched: dict[int, list[Match]] = {}
    for row in rows:
        what, n, type_id, id = row[0], row[1], row[2], row[3]
        if what == "matched":
            version, updated, shard, source = row[5], row[6], row[7], row[8]
            matched.setdefault(n, []).append(Match(TYPE_NAMES[type_id], id, version, updated, row[4], shard, source))
        elif what == "owner":
            found.owners[TYPE_NAMES[type_id], id] = row[10]
        else:
            found.holding.take(row[2:])
    _settle(found, asked, matched)
    found.holding.asked |= {(TYPE_NAMES[type_id], id) for type_id, id in direct}
    return found


@dataclass(frozen=True, slots=True)
class _Asked:
    condition: Condition
    token: int
    source: int | None


def _asked(uow: "UnitOfWork", conditions: Iterable[Condition]) -> list[_Asked]:
    """Every condition once for each source it may mean, the nearest first."""
    own = uow.caller.facility_id or None
    asked = []
    for condition in dict.fromkeys(conditions):
        named = condition.criteria
        assert named.identifier is not None, "find answers exact identifiers"
        token = uow.record.hasher.token(parameters.of(named.type_name)["identifier"].id, *named.identifier)
        open_to_all = own is not None and condition.whose == "refer" and named.type_name in DIRECTORY_TYPES
        asked += [_Asked(condition, token, source) for source in ((own, CITY, None) if open_to_all else (own,))]
    return asked


def _settle(found: Found, asked: Sequence[_Asked], matched: Mapping[int, list[Match]]) -> None:
    """Of the sources of a condition the first that has a match; what was locked with it is asked for."""
    for n, one in enumerate(asked):
        matches = matched.get(n, [])
        if not found.matches.get(one.condition):
            found.matches[one.condition] = matches
        if one.condition.writes:
            for match in matches:
                _same(found.holding, match)
            found.holding.asked |= {(match.type_name, match.id) for match in matches}


def _same(holding: Holding, match: Match) -> None:
    """The row we locked is the one that matched."""
    current = holding.current.get((match.type_name, match.id))
    if current is None or current.version != match.version:
        raise Raced("what a condition matches changed before it was locked")
