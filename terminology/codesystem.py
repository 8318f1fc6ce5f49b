"""System and code → the words a person reads.

In:      code system URL, code, language ("vi" or "en")
Out:     display in that language, else in the language the list is published in, else None
Why:     what an operator has loaded wins; the project's own small tables answer where nothing is loaded
Source:  FHIR R4 4.8.18.1 $lookup
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import orjson

from terminology.connection import Connection
from terminology.lists import DIAGNOSES, ICD_10, INGREDIENT, LAB_TESTS, LOINC, MEDICINES, SERVICE, SERVICES
from terminology.resources import CodeSystem

Language = Literal["vi", "en"]
DEFAULT: Final[Language] = "vi"
"""The city's: what nobody asked otherwise is shown in."""

_LOOKUP: Final = """
select s.url, s.version, s.title, s.language, c.code, c.display, c.parent, c.selectable,
  c.properties::text as properties,
  (select json_object_agg(d.language, d.value)::text from designation d
    where d.code_system_id = s.id and d.code = c.code) as designations
from code_system s join concept c on c.code_system_id = s.id
where s.url = $1 and c.code = $2 and ($3::text is null or s.version = $3)
order by s.loaded desc, s.id desc limit 1"""

_DISPLAYS: Final = """
select distinct on (s.url, c.code) s.url, c.code, coalesce(d.value, c.display) as display
from unnest($1::text[], $2::text[]) as asked (url, code)
join code_system s on s.url = asked.url
join concept c on c.code_system_id = s.id and c.code = asked.code
left join designation d on d.code_system_id = s.id and d.code = c.code and d.language = $3
order by s.url, c.code, s.loaded desc, s.id desc"""


_LOADED: Final = "select url, version from code_system order by url, version"


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of one code. designations: language → text, the list's own language included."""

    system: str
    version: str
    title: str
    code: str
    display: str
    parent: str | None
    selectable: bool
    properties: Mapping[str, object]
    designations: Mapping[str, str]


async def loaded(connection: Connection) -> list[tuple[str, str]]:
    """(url, version) of every loaded code system; version '' where its publisher gives none."""
    return [(row["url"], row["version"]) for row in await connection.fetch(_LOADED)]


async def lookup(
    connection: Connection, system: str, code: str, *, language: str = "vi", version: str | None = None
) -> Looked | None:
    """Everything about a loaded code; without version, of the version loaded last that has it."""
    row = await connection.fetchrow(_LOOKUP, system, code, version)
    if row is None:
        return None
    designations = {row["language"]: row["display"], **orjson.loads(row["designations"] or b"{}")}
    return Looked(
        system=row["url"],
        version=row["version"],
        title=row["title"],
        code=row["code"],
        display=designations.get(language, row["display"]),
        parent=row["parent"],
        selectable=row["selectable"],
        properties=orjson.loads(row["properties"]),
        designations=designations,
    )


def looked(system: CodeSystem, code: str, *, language: str = DEFAULT) -> Looked | None:
    """lookup, in a code system that is in memory."""
    found = next((one for one in system.concepts if one.code == code), None)
    if found is None:
        return None
    designations = {system.language: found.display, **found.designations}
    return Looked(
        system=system.url,
        version=system.version,
        title=system.title,
        code=code,
        display=designations.get(language, found.display),
        parent=found.parent,
        selectable=found.selectable,
        properties=found.properties,
        designations=designations,
    )


async def displays(
    connection: Connection, pairs: Iterable[tuple[str, str]], *, language: Language = "vi"
) -> dict[tuple[str, str], str]:
    """(system, code) → display, for all of a page at once; codes that nobody knows are left out."""
    asked = sorted(set(pairs))
    rows = await connection.fetch(_DISPLAYS, [system for system, _ in asked], [code for _, code in asked], language)
    loaded = {(row["url"], row["code"]): str(row["display"]) for row in rows}
    own = {pair: text for pair in asked if pair not in loaded and (text := known_display(*pair, language=language))}
    return own | loaded


async def display(connection: Connection, system: str, code: str, *, language: Language = "vi") -> str | None:
    return (await displays(connection, [(system, code)], language=language)).get((system, code))


def known_display(system: str, code: str, *, language: Language = "vi") -> str | None:
    """The display in the project's own tables, without a database."""
    names = _own().get((system, code))
    return None if names is None else names[0] if language == "vi" else names[1] or names[0]


@cache
def _own() -> Mapping[tuple[str, str], tuple[str, str]]:
    return {
        **{(ICD_10, one.code): (one.name_vi, one.name_en) for one in DIAGNOSES},
        **{(LOINC, one.code): (one.name_vi, one.name_en) for one in LAB_TESTS},
        **{(SERVICE, one.code): (one.name_vi, one.name_en) for one in SERVICES},
        **{(INGREDIENT, one.code): (one.ingredient, "") for one in MEDICINES},
    }
