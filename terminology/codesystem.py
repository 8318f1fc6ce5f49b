"""Code systems and their concepts: of what is loaded, and of the project's own small tables.

In:      code system URL, code, version
Out:     CodeSystem, whole or without its concepts; Found: a concept with the system that has it
Keeps:   without a version that loaded last; of a page of codes, that loaded last which has the code
Why:     what an operator has loaded wins; the project's own small tables answer where nothing is loaded
Source:  FHIR R4 4.8.18.1 $lookup
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final, Literal

import orjson

from terminology.connection import Connection
from terminology.lists import DIAGNOSES, ICD_10, INGREDIENT, LAB_TESTS, LOINC, MEDICINES, SERVICE, SERVICES
from terminology.resources import CodeSystem, Concept, Designation

Language = Literal["vi", "en"]
DEFAULT: Final[Language] = "vi"
"""The city's: what nobody asked otherwise is shown in."""

CONCEPTS_KEPT_MAX: Final = 50_000
"""Concepts a process remembers, some 2 kB each: ICD-10 and the national services are 21,000, LOINC is 100,000."""

DISPLAY: Final = {"system": "http://terminology.hl7.org/CodeSystem/designation-usage", "code": "display"}
"""The use of the designation that is the display."""

_SYSTEM: Final = """s.id, s.digest, s.url, s.version, s.title, s.language, s.content, s.case_sensitive, s.value_set,
  s.meaning"""
_CONCEPT: Final = """c.code, c.display, c.definition, c.parents, c.selectable, c.active,
  c.properties::text as properties"""
_HEADS: Final = f"select {_SYSTEM} from code_system s"  # noqa: S608 - constants, here and below
_NEWEST: Final = "order by s.loaded desc, s.id desc limit 1"
_HEAD: Final = f"{_HEADS} where s.url = $1 and ($2::text is null or s.version = $2) {_NEWEST}"
_WHOLE_BY: Final = f"{_HEADS} where s.value_set = $1 {_NEWEST}"
_NAMES: Final = """
(select json_agg(json_build_object('language', d.language, 'value', d.value, 'use', d.use) order by d.place)::text
    from designation d where d.code_system_id = c.code_system_id and d.code = c.code) as names"""
_ALL: Final = f"select {_CONCEPT} from concept c where c.code_system_id = $1 order by c.place"  # noqa: S608
_ALL_NAMES: Final = """
select code, language, value, use::text as use from designation where code_system_id = $1 order by code, place"""
_ONE: Final = f"select {_CONCEPT}, {_NAMES} from concept c where c.code_system_id = $1 and "  # noqa: S608
_EXACT: Final = f"{_ONE} c.code = $2"
_ANY_CASE: Final = f"{_ONE} lower(c.code) = lower($2) order by c.code limit 1"
_EACH: Final = f"""
select distinct on (asked.url, c.code) {_SYSTEM}, {_CONCEPT}, {_NAMES}
from unnest($1::text[], $2::text[], $3::text[]) as asked (url, code, version)
join code_system s on s.url = asked.url and asked.version in ('', s.version)
join concept c on c.code_system_id = s.id and c.code = asked.code
order by asked.url, c.code, s.loaded desc, s.id desc"""  # noqa: S608
_BELOW: Final = "select code from concept where code_system_id = $1 and parents @> array[$2::text] order by place"
_LOADED: Final = """
select url, version, language, id = first_value(id) over (partition by url order by loaded desc, id desc) as is_default
from code_system order by url, version"""


@dataclass(frozen=True, slots=True)
class Found:
    """system: without its concepts, where it is loaded. concept None: the system is here, and has no such code."""

    system: CodeSystem
    concept: Concept | None

    def name(self, language: str | None) -> str:
        return "" if self.concept is None else self.system.name(self.concept, language)

    def told(self) -> list[dict[str, Any]]:
        """Its designations as FHIR has them, the display first."""
        if self.concept is None:
            return []
        first = Designation(self.concept.display, self.system.language, DISPLAY)
        return [told(one) for one in (first, *self.concept.designations) if one.value]


def told(one: Designation) -> dict[str, Any]:
    """As FHIR has it."""
    language = {"language": one.language} if one.language else {}
    return {**language, **({"use": one.use} if one.use else {}), "value": one.value}


Known = Mapping[tuple[str, str], Found]
"""(system, code) → what is known of it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """version '' where its publisher gives none. is_default: what the url alone names."""

    url: str
    version: str
    language: str
    is_default: bool


async def loaded(connection: Connection) -> list[Loaded]:
    """Every loaded code system, by url and version."""
    return [Loaded(**row) for row in await connection.fetch(_LOADED)]


async def code_system(connection: Connection, url: str, version: str | None) -> CodeSystem | None:
    """All of it; None where it is not loaded."""
    head = await connection.fetchrow(_HEAD, url, version)
    return None if head is None else await _whole(connection, head)


async def code_system_of(connection: Connection, value_set: str) -> CodeSystem | None:
    """The one that names this as the value set of all its codes."""
    head = await connection.fetchrow(_WHOLE_BY, value_set)
    return None if head is None else await _whole(connection, head)


async def _whole(connection: Connection, head: Mapping[str, Any]) -> CodeSystem:
    """What was loaded never changes under its digest: it is fetched once, while it is among those kept."""
    kept = _kept.get(head["digest"])
    if kept is None:
        kept = await _fetched(connection, head)
        _kept.keep(head["digest"], kept)
    return kept


async def _fetched(connection: Connection, head: Mapping[str, Any]) -> CodeSystem:
    named: dict[str, list[Designation]] = {}
    for row in await connection.fetch(_ALL_NAMES, head["id"]):
        use = None if row["use"] is None else orjson.loads(row["use"])
        named.setdefault(row["code"], []).append(Designation(row["value"], row["language"], use))
    rows = await connection.fetch(_ALL, head["id"])
    return _system(head, {row["code"]: _concept(row, named.get(row["code"], ())) for row in rows})


class _Kept:
    """The code systems used last, as many as CONCEPTS_KEPT_MAX allows; by the digest of what was loaded."""

    def __init__(self) -> None:
        self._by_digest: OrderedDict[bytes, CodeSystem] = OrderedDict()

    def get(self, digest: bytes) -> CodeSystem | None:
        found = self._by_digest.get(digest)
        if found is not None:
            self._by_digest.move_to_end(digest)
        return found

    def keep(self, digest: bytes, system: CodeSystem) -> None:
        if digest:
            self._by_digest[digest] = system
        while sum(len(one.concepts) for one in self._by_digest.values()) > CONCEPTS_KEPT_MAX:
            self._by_digest.popitem(last=False)


_kept: Final = _Kept()


async def find(connection: Connection, url: str, code: str, version: str | None = None) -> Found | None:
    """None where the code system is not loaded."""
    head = await connection.fetchrow(_HEAD, url, version)
    if head is None:
        return None
    row = await connection.fetchrow(_EXACT, head["id"], code)
    if row is None and not head["case_sensitive"]:
        row = await connection.fetchrow(_ANY_CASE, head["id"], code)
    return Found(_system(head), None if row is None else _concept(row, _names(row)))


async def find_each(
    connection: Connection, pairs: Iterable[tuple[str, str]], versions: Mapping[str, str] = MappingProxyType({})
) -> dict[tuple[str, str], Found]:
    """All of a page at once, those that are loaded. versions: of systems, by their urls."""
    asked = sorted(set(pairs))
    codes = [code for _, code in asked]
    wanted = [versions.get(url, "") for url, _ in asked]
    rows = await connection.fetch(_EACH, [url for url, _ in asked], codes, wanted)
    return {(row["url"], row["code"]): Found(_system(row), _concept(row, _names(row))) for row in rows}


async def children(connection: Connection, system: CodeSystem, code: str) -> list[str]:
    """The codes right below one, of a code system that is loaded."""
    head = await connection.fetchrow(_HEAD, system.url, system.version)
    return [] if head is None else [row["code"] for row in await connection.fetch(_BELOW, head["id"], code)]


def own(url: str, code: str) -> Found | None:
    """In the project's own tables, without a database."""
    return _own().get((url, code))


def _system(row: Mapping[str, Any], concepts: Mapping[str, Concept] = MappingProxyType({})) -> CodeSystem:
    return CodeSystem(
        url=row["url"],
        version=row["version"],
        title=row["title"],
        language=row["language"],
        concepts=concepts,
        content=row["content"],
        case_sensitive=row["case_sensitive"],
        value_set=row["value_set"],
        meaning=row["meaning"],
    )


def _concept(row: Mapping[str, Any], designations: Iterable[Designation]) -> Concept:
    return Concept(
        code=row["code"],
        display=row["display"],
        definition=row["definition"],
        parents=tuple(row["parents"]),
        selectable=row["selectable"],
        active=row["active"],
        properties={name: tuple(values) for name, values in orjson.loads(row["properties"]).items()},
        designations=tuple(designations),
    )


def _names(row: Mapping[str, Any]) -> list[Designation]:
    return [Designation(**one) for one in orjson.loads(row["names"] or b"[]")]


@cache
def _own() -> Known:
    tables: dict[str, dict[str, tuple[str, str]]] = {
        ICD_10: {one.code: (one.name_vi, one.name_en) for one in DIAGNOSES},
        LOINC: {one.code: (one.name_vi, one.name_en) for one in LAB_TESTS},
        SERVICE: {one.code: (one.name_vi, one.name_en) for one in SERVICES},
        INGREDIENT: {one.code: (one.ingredient, "") for one in MEDICINES},
    }
    return {
        (url, code): Found(
            CodeSystem(url, "", "", DEFAULT, content="fragment"),
            Concept(code, name, designations=(Designation(english, "en"),) if english else ()),
        )
        for url, listed in tables.items()
        for code, (name, english) in listed.items()
    }
