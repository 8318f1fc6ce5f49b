"""Where a code stands in its code system → the codes below it, or above it, itself included.

In:      code system URL, code, the most codes wanted; or the code system itself
Out:     codes, of the version loaded last that has the code; empty where none has it
Keeps:   a cycle in a published hierarchy ends where it began; where what is below a code is not of its kind
         (hierarchyMeaning), it has nothing but itself above and below
Source:  FHIR R4 4.8.6 code system hierarchy, 3.1.1.5.5 :above and :below
"""

from collections.abc import Callable, Mapping
from typing import Final

from terminology.connection import Connection
from terminology.filters import ancestors, descendants
from terminology.resources import NO_KINDS, CodeSystem, Concept

_OF_SYSTEM: Final = """(
select c.code_system_id, c.code, c.parents, s.meaning <> all($4::text[]) as subsumes
from code_system s join concept c on c.code_system_id = s.id and c.code = $2
where s.url = $1 order by s.loaded desc, s.id desc limit 1)"""
_WALK: Final = """
with recursive found as (
{start}
union
select c.code_system_id, c.code, c.parents, f.subsumes from found f join concept c
  on f.subsumes and c.code_system_id = f.code_system_id and {step}
) select distinct code from found limit $3"""
_BELOW: Final = _WALK.format(start=_OF_SYSTEM, step="c.parents @> array[f.code]")
_ABOVE: Final = _WALK.format(start=_OF_SYSTEM, step="c.code = any(f.parents)")


async def below(connection: Connection, system: str, code: str, count_max: int) -> list[str]:
    """The code and everything it subsumes."""
    return [row["code"] for row in await connection.fetch(_BELOW, system, code, count_max, NO_KINDS)]


async def above(connection: Connection, system: str, code: str, count_max: int) -> list[str]:
    """The code and everything that subsumes it."""
    return [row["code"] for row in await connection.fetch(_ABOVE, system, code, count_max, NO_KINDS)]


def below_in(system: CodeSystem, code: str) -> list[str]:
    """below, of a code system that is in memory."""
    return _with(code, descendants, system)


def above_in(system: CodeSystem, code: str) -> list[str]:
    """above, of a code system that is in memory."""
    return _with(code, ancestors, system)


def _with(code: str, walk: Callable[[str, Mapping[str, Concept]], set[str]], system: CodeSystem) -> list[str]:
    if code not in system.concepts:
        return []
    return [code, *sorted(walk(code, system.concepts) - {code})] if system.subsumes else [code]
