"""The Person resource of a human being: computed from its linked source Patients, never edited.

In:      person_link rows, the linked Patients as they stand in this transaction, the claims the Person holds
Out:     Person with link[], identifier[], and the demographics of the first source that states each
Empty:   a Person without links stays, inactive, and keeps its claims: whoever comes with that number is it again
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ehr.database.connection import Connection, Row
from ehr.fhir import codec
from ehr.fhir.r4 import TYPE_IDS
from ehr.identity.normalize import Numbers
from ehr.store.locks import Holding, hold
from ehr.store.resources import Write

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

CITY_SCOPE: Final = 0
REASON: Final = "identity"

_SOURCES: Final = """
SELECT l.patient_id, l.assurance, r.rid, r.body FROM person_link l
LEFT JOIN resource r ON r.type_id = $2 AND r.id = l.patient_id
WHERE l.person_id = $1
"""
_SOURCES_AND_KEYS: Final = f"""
{_SOURCES}
UNION ALL
SELECT c.key, NULL, NULL, NULL FROM claim c WHERE c.type_id = $3 AND c.id = $1 AND c.scope = $4
"""  # noqa: S608 - a constant of ours
_LINK: Final = """
INSERT INTO person_link (shard, patient_id, person_id, assurance) VALUES ($1, $2, $3, $4)
ON CONFLICT (shard) DO UPDATE SET person_id = excluded.person_id, assurance = excluded.assurance
"""
_LINK_MANY: Final = """
INSERT INTO person_link (shard, patient_id, person_id, assurance)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
ON CONFLICT (shard) DO UPDATE SET person_id = excluded.person_id, assurance = excluded.assurance
"""
_UNLINK: Final = "DELETE FROM person_link WHERE shard = $1"
_HELD: Final = "SELECT key FROM claim WHERE type_id = $1 AND id = $2 AND scope = $3"
_COMPUTED: Final = ("name", "telecom", "gender", "birthDate", "address")
SAID_BY_SOURCES: Final = ("identifier", *_COMPUTED)
"""What of a source Patient goes into its Person."""


@dataclass(frozen=True, slots=True)
class LinkedPatient:
    """A source Patient of a person as it stands now."""

    id: str
    assurance: str
    rid: int
    tree: Mapping[str, Any]


async def sources(uow: "UnitOfWork", person_id: str) -> list[LinkedPatient]:
    """The linked Patients, the oldest first: it is the anchor that later ones are compared with."""
    return _linked(uow, await uow.connection.fetch(_SOURCES, person_id, TYPE_IDS["Patient"]))


def _linked(uow: "UnitOfWork", rows: Iterable[Row]) -> list[LinkedPatient]:
    found = [
        LinkedPatient(r["patient_id"], r["assurance"], r["rid"], codec.loads(uow.record.bodies.decompress(r["body"])))
        for r in rows
        if r["body"] is not None
    ]
    return sorted(found, key=lambda source: source.rid)


async def held_keys(connection: Connection, person_id: str) -> set[str]:
    """The national numbers that are this person's."""
    rows = await connection.fetch(_HELD, TYPE_IDS["Person"], person_id, CITY_SCOPE)
    return {row["key"] for row in rows}


async def set_link(uow: "UnitOfWork", person_id: str, patient_id: str, assurance: str) -> None:
    shard = uow.record.hasher.shard("Patient", patient_id)
    await uow.connection.execute(_LINK, shard, patient_id, person_id, assurance)


async def drop_link(uow: "UnitOfWork", patient_id: str) -> None:
    await uow.connection.execute(_UNLINK, uow.record.hasher.shard("Patient", patient_id))


async def lock(uow: "UnitOfWork", person_ids: Iterable[str]) -> Holding:
    """Make other writers of these Persons wait; always in one order."""
    await uow.plan("once")
    return await hold(uow.connection, (("Person", person_id) for person_id in person_ids))


async def rewrite(uow: "UnitOfWork", numbers: Numbers, person_id: str, holding: Holding | None = None) -> None:
    """Compute the Person anew from its links. Changes nothing where nothing changed."""
    rows = await uow.connection.fetch(_SOURCES_AND_KEYS, person_id, TYPE_IDS["Patient"], TYPE_IDS["Person"], CITY_SCOPE)
    linked = _linked(uow, rows)
    held = {row["patient_id"] for row in rows if row["assurance"] is None}
    if linked:
        stated = {number.key for source in linked for number in numbers.of(source.tree)}
        await uow.claims.release(CITY_SCOPE, "Person", person_id, held - stated)
        held &= stated
    tree = person_tree(person_id, linked, held, numbers)
    await uow.as_city(REASON).apply([Write("U", "Person", person_id, None, tree)], holding=holding)


async def begin(uow: "UnitOfWork", numbers: Numbers, new: Mapping[str, LinkedPatient]) -> None:
    """First versions of Persons whose ids are new, each with its only source, which states numbers nobody had."""
    if not new:
        return
    shards = [uow.record.hasher.shard("Patient", source.id) for source in new.values()]
    patients, levels = [source.id for source in new.values()], [source.assurance for source in new.values()]
    await uow.connection.execute(_LINK_MANY, shards, patients, list(new), levels)
    trees = {
        id: person_tree(id, [source], {number.key for number in numbers.of(source.tree)}, numbers)
        for id, source in new.items()
    }
    asked = [Write("U", "Person", id, None, tree, made_id=True) for id, tree in trees.items()]
    await uow.as_city(REASON).apply(asked)


def person_tree(person_id: str, linked: Sequence[LinkedPatient], held: set[str], numbers: Numbers) -> dict[str, Any]:
    """The Person of these sources. Pure: equal sources give an equal Person."""
    tree: dict[str, Any] = {"resourceType": "Person", "id": person_id}
    identifiers = _identifiers(linked, held, numbers)
    if identifiers:
        tree["identifier"] = identifiers
    for name in _COMPUTED:
        value = next((source.tree[name] for source in linked if source.tree.get(name)), None)
        if name == "birthDate":
            value = max((str(s.tree.get(name) or "") for s in linked), key=len, default="") or None
        if value is not None:
            tree[name] = value
    tree["active"] = bool(linked)
    if linked:
        tree["link"] = [
            {"target": {"reference": f"Patient/{source.id}"}, "assurance": source.assurance} for source in linked
        ]
    return tree


def _identifiers(linked: Sequence[LinkedPatient], held: set[str], numbers: Numbers) -> list[dict[str, str]]:
    """Each number in its canonical form, and as sources write it where that differs (a card of 15 characters)."""
    found = {tuple(key.split("|", 1)) for key in held}
    for source in linked:
        for identifier, number in numbers.stated(source.tree):
            if number.key in held:
                found.add((number.system, str(identifier["value"])))
    return [{"system": system, "value": value} for system, value in sorted(found)]
