"""Value set, system and code → whether the code is in the set; or all codes of the set.

In:      value set URL (with |version or not), system, code; bound: the compiled value sets of the FHIR
         specification, given by the caller, because this room knows nobody
Out:     Membership; result None where the value set is not known here
Source:  FHIR R4 4.9.18.2 $validate-code, 4.9.18.1 $expand; implicit value sets: snomedct.html, loinc.html, ucum.html
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from terminology.connection import Connection
from terminology.resources import Designation, Filter, Include, ValueSet

Bound = Callable[[str], Mapping[str, frozenset[str]] | None]
"""Value set URL → system → codes, or None; ehr.fhir.structure.codes is one."""

_LOADED: Final = """
select id from value_set where url = $1 and ($2::text is null or version = $2) order by loaded desc, id desc limit 1"""
_CODE: Final = """
select system, display from value_set_code
where value_set_id = $1 and code = $2 and ($3::text is null or system = $3) order by system limit 1"""

_CODES: Final = "select system, code from value_set_code where value_set_id = $1 order by system, code limit $2"
_ALL: Final = "select system, code, display from value_set_code where value_set_id = $1 order by place"
_NAMED: Final = """
select system, code, designations::text as designations from value_set_code
where value_set_id = $1 and designations is not null and ($2::text is null or code = $2)"""


async def codes_of(connection: Connection, url: str, count_max: int) -> list[tuple[str, str]] | None:
    """(system, code) of a loaded value set, no more than the bound; None where none is loaded."""
    key = await _key_of(connection, url)
    return (
        None
        if key is None
        else [(row["system"], row["code"]) for row in await connection.fetch(_CODES, key, count_max)]
    )


_SYSTEM_ALL: Final = "?fhir_vs"
_SYSTEM_BELOW: Final = "?fhir_vs=isa/"
_SAID: Final = {"http://loinc.org/vs": "http://loinc.org", "http://unitsofmeasure.org/vs": "http://unitsofmeasure.org"}


def implicit(url: str) -> ValueSet | None:
    """What a url says by itself: all of a system, [system]?fhir_vs, or a code and those below, ?fhir_vs=isa/[code]."""
    name, _, version = url.partition("|")
    system, is_below, code = name.partition(_SYSTEM_BELOW)
    if not is_below:
        system = _SAID.get(name) or (name.removesuffix(_SYSTEM_ALL) if name.endswith(_SYSTEM_ALL) else "")
    if not system or (is_below and not code):
        return None
    filters = (Filter("concept", "is-a", code),) if is_below else ()
    whole = Include(system, version or None, codes=None, filters=filters, value_sets=())
    return ValueSet(name, version, "", expansion=None, include=(whole,), exclude=())


async def expansion(connection: Connection, url: str) -> dict[tuple[str, str], str] | None:
    """(system, code) → display of a loaded value set, "" where it has none; None where none is loaded."""
    key = await _key_of(connection, url)
    if key is None:
        return None
    return {(row["system"], row["code"]): row["display"] for row in await connection.fetch(_ALL, key)}


async def designations(
    connection: Connection, url: str, code: str | None = None
) -> dict[tuple[str, str], tuple[Designation, ...]]:
    """(system, code) → what a loaded value set itself calls it, beside its display."""
    rows = await connection.fetch(_NAMED, await _key_of(connection, url), code)
    return {
        (row["system"], row["code"]): tuple(Designation(**one) for one in orjson.loads(row["designations"]))
        for row in rows
    }


def listed(url: str, bound: Bound) -> dict[tuple[str, str], str] | None:
    """(system, code) → "" of a compiled value set; None where none is."""
    systems = bound(url.partition("|")[0])
    if systems is None:
        return None
    return {(system, code): "" for system, codes in systems.items() for code in sorted(codes)}


async def _key_of(connection: Connection, url: str) -> int | None:
    name, _, version = url.partition("|")
    key: int | None = await connection.fetchval(_LOADED, name, version or None)
    return key


@dataclass(frozen=True, slots=True)
class Membership:
    """result: in the set, not in it, or None: the set is not known. display: as the set names the code."""

    result: bool | None
    system: str | None = None
    display: str | None = None


async def validate_code(
    connection: Connection, url: str, code: str, *, system: str | None = None, bound: Bound | None = None
) -> Membership:
    """Without system, a code element: the code may be of any system of the set."""
    name, _, version = url.partition("|")
    key = await connection.fetchval(_LOADED, name, version or None)
    if key is not None:
        row = await connection.fetchrow(_CODE, key, code, system)
        return Membership(row is not None, row and row["system"], (row and row["display"]) or None)
    systems = bound(name) if bound is not None else None
    if systems is None:
        return Membership(None)
    found = next((one for one, codes in systems.items() if code in codes and system in (None, one)), None)
    return Membership(found is not None, found)
