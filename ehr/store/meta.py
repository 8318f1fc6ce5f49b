"""The profiles, tags and security labels that resources have now, of some types or of all.

In:      types; what the caller may see of them
Out:     the lists of a Meta, each value once, as a resource says it that the caller sees
How:     the terms of them (ehr.index.meta) are what any resource ever had; for each, one resource that has it now is
         looked up, and all that this one has is found with it
Cost:    what the index of tokens holds of those that are looked up: some 0.1 µs a resource and value, whatever order
         they were written in; at most limits.meta_values_max of each element
Errors:  TooMuch       there are more
         NotSupported  the terms of older rows are not there yet (ehr.index.formats)
Versions A profile is found by its address with or without a version. So who claims both, in one resource, is listed as
         claiming the version; anything else is told apart
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ehr import limits
from ehr.errors import TooMuch
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import formats
from ehr.index.meta import BESIDE, PARAMETERS, members, unversioned
from ehr.store.access_sql import arguments, seen
from ehr.store.everything import sources_of

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

TOGETHER: Final = 50
"""Values looked up by one statement: planning it takes some milliseconds, and what one finds need not be looked up."""

_TERMS: Final = "SELECT value::bigint AS token FROM term WHERE param_id = $1 LIMIT $2"
_BY_INDEX: Final = "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = off"
"""The planner takes rows that have a value for spread evenly, and would read on to the first: values come and go with
imports, and it may be the last."""
_HAVING: Final = f"""
SELECT n.token, one.body FROM unnest($3::bigint[]) AS n (token) CROSS JOIN LATERAL (
    SELECT r.body FROM resource r
    WHERE r.tokens @> ARRAY[n.token] AND NOT r.tokens && $4::bigint[] AND r.type_id = ANY($5::smallint[])
      AND ($6::bigint[] IS NULL OR r.shard = ANY($6)) AND {seen("r")}
    LIMIT 1
) AS one
"""  # noqa: S608 - constants of ours


async def in_use(uow: "UnitOfWork", type_names: Iterable[str]) -> dict[str, list[Any]]:
    """type_names: those that are granted."""
    await formats.require(uow.connection, uow.record.installation, formats.META, "$meta")
    await uow.connection.execute(_BY_INDEX)
    listing = _Listing(uow, await _parts(uow, type_names))
    for name, param_id in PARAMETERS.items():
        rows = await uow.connection.fetch(_TERMS, BESIDE + param_id, limits.meta_values_max + 1)
        if len(rows) > limits.meta_values_max:
            text = f"more than {limits.meta_values_max} are in use, or were; search with _{name}"
            raise TooMuch(text, at=f"meta.{name}")
        await listing.look_for(sorted({row["token"] for row in rows}))
    return listing.lists()


Part = tuple[Sequence[int], Sequence[int] | None]
"""Types, and the shards that they are looked up in; None: all."""


async def _parts(uow: "UnitOfWork", type_names: Iterable[str]) -> list[Part]:
    """What the caller may see, as the indexes find it: of a confined one, its shards are few and their values many."""
    types, person_id = list(type_names), uow.access.person_id
    if person_id is None:
        return [([TYPE_IDS[name] for name in types], None)]
    shards = [shard for shard, _ in await sources_of(uow, person_id)]
    shards.append(uow.record.hasher.shard("Person", person_id))
    own = [TYPE_IDS[name] for name in types if name not in uow.access.open_types]
    others = [TYPE_IDS[name] for name in types if name in uow.access.open_types]
    return [(own, shards), (others, None)]


@dataclass(slots=True)
class _Listing:
    """found: token → the element it stands in, and its value."""

    uow: "UnitOfWork"
    parts: Sequence[Part]
    found: dict[int, tuple[str, Any]] = field(default_factory=dict)

    async def look_for(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), TOGETHER):
            some = tokens[start : start + TOGETHER]
            for part in self.parts:
                met = await self._take([token for token in some if token not in self.found], part)
                for token in met - self.found.keys():
                    await self._take_unversioned(token, part)

    async def _take_unversioned(self, token: int, part: Part) -> None:
        """The resource that was found by the address of a profile claims a version of it: look for one without."""
        without = set[int]()
        while token not in self.found and without < (versions := self._versions(token)):
            without = versions
            await self._take([token], part, without)

    def _versions(self, token: int) -> set[int]:
        hasher, known = self.uow.record.hasher, self.found.items()
        return {one for one, (name, value) in known if name == "profile" and unversioned(hasher, value) == token}

    async def _take(self, tokens: Sequence[int], part: Part, without: Iterable[int] = ()) -> set[int]:
        """All that one resource for each of the tokens has; the tokens there is one for."""
        types, shards = part
        rows = await self.uow.connection.fetch(
            _HAVING, *arguments(self.uow.access), tokens, list(without), types, shards
        )
        for row in rows:
            meta = codec.loads(self.uow.record.bodies.decompress(row["body"]))["meta"]
            for token, name, value in members(self.uow.record.hasher, meta):
                self.found.setdefault(token, (name, value))
        return {row["token"] for row in rows}

    def lists(self) -> dict[str, list[Any]]:
        """Elements in the order of Meta, values in their own."""
        made: dict[str, list[Any]] = {}
        for name in PARAMETERS:
            values = [value for where, value in self.found.values() if where == name]
            if values:
                made[name] = sorted(values, key=_order)
        return made


def _order(value: Any) -> tuple[str, str]:
    return (value, "") if isinstance(value, str) else (value.get("system", ""), value["code"])
