"""Strict hierarchies of references (R4 3.1.1.4.14): what lies below a resource, or above it, by what it is part of.

In:      a type that has a parent of its own type, an id, and whether to look up or down
Out:     ids, that of the resource among them; at most one above limits.search_codes_max, which who asks then refuses
Access:  a confined caller walks among what its person's records and the open types have
Source:  FHIR R4 search.html#recursive; the parameters are those of partOf and parent
"""

from typing import TYPE_CHECKING, Final, Literal

from ehr import limits
from ehr.access.policy import AccessPredicate
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.hashing import Hasher

if TYPE_CHECKING:
    from ehr.database.connection import Connection

Direction = Literal["above", "below"]

_PARENTS: Final = ("partof", "part-of", "parent")
_SEEN: Final = "($6::text is null or r.shard in (select shard from person_link where person_id = $6))"
_BELOW: Final = f"""
with recursive part (id, own) as (
    select $2::text collate "C", $3::bigint
    union
    select r.id, r.tokens[1] from part
    join resource r on r.type_id = $1 and r.tokens @> array[((part.own # $4) & -256) | $5::bigint] and {_SEEN}
)
select id from part limit $7
"""  # noqa: S608 - constants of ours
_ABOVE: Final = f"""
with recursive part (id, tokens) as (
    select r.id, r.tokens from resource r
    where r.type_id = $1 and r.id = $2 and r.tokens[1] = $3::bigint and {_SEEN}
    union
    select r.id, r.tokens from part cross join unnest(part.tokens) as parent (token)
    join resource r on r.type_id = $1 and r.tokens @> array[(parent.token # $4) & -256]
        and r.tokens[1] = (parent.token # $4) & -256 and {_SEEN}
    where parent.token & 255 = $5::bigint
)
select id from part limit $7
"""  # noqa: S608


def parent_of(type_name: str) -> Parameter | None:
    """The parameter by which a type refers to what it is part of."""
    known = parameters.of(type_name)
    found = (known[code] for code in _PARENTS if code in known and known[code].may_target(type_name))
    return next(found, None)


def has_hierarchy(parameter: Parameter) -> bool:
    """Whether it points to a type that has one."""
    if parameter.kind != "reference" or not any(path.type == "Reference" for path in parameter.paths):
        return False
    return any(parent_of(name) is not None for name in parameter.targets if name in TYPE_IDS)


async def walked(
    connection: "Connection", hasher: Hasher, access: AccessPredicate, named: tuple[str, str], direction: Direction
) -> list[str]:
    type_name, id = named
    parent = parent_of(type_name)
    if parent is None:
        return [id]
    rows = await connection.fetch(
        _BELOW if direction == "below" else _ABOVE,
        TYPE_IDS[type_name],
        id,
        hasher.self_token(type_name, id),
        hasher.salt(parent.id),
        parent.slot,
        None if type_name in access.open_types else access.person_id,
        limits.search_codes_max + 1,
    )
    return [str(row["id"]) for row in rows] or [id]
