"""In what format every row of the index is at least: what a later version of the server adds is not in older rows.

FORMAT     what this version writes. A version that changes what is written raises it, and its migration says so of an
           empty store
standing   what is true of all rows: installation.index_format, or more where a job has been through them since
Why        a search that needs what some rows have not would leave them out silently: it is refused until they have it.
           Workers bring older rows up to date by themselves (ehr.store.backfill)
"""

from typing import TYPE_CHECKING, Final

from ehr.errors import NotSupported

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation

TERMS: Final = 1
"""Distinct texts and units (ehr.index.term)."""
CONTAINED: Final = 2
"""Contained resources, and references to them (ehr.index.contained)."""
SPANS: Final = 3
"""Variants of a MolecularSequence with their chromosome (ehr.index.leaves.spanned)."""
OUTLINES: Final = 4
"""Which parameters have a value, in one token (ehr.index.outline). Nothing needs it: older rows are found as well."""
CODES: Final = 5
"""The first coding of the main code in its place (ehr.index.main_code). Older rows are found in another way."""
META: Final = 6
"""Profiles, tags and labels in meta as terms (ehr.index.meta), for which all rows have to be read; and what lies beyond
a number, beyond it (ehr.index.numbers)."""
FORMAT: Final = META

_STANDING: Final = """
select greatest(i.index_format, (
    select max((j.params ->> 'format')::int) from job j where j.kind = 'index' and j.state = 'done'
)) from installation i
"""
_RAISE: Final = "update installation set index_format = $1 where index_format < $1"


async def require(connection: "Connection", installation: "Installation", needed: int, what: str) -> None:
    """Refuse a search that would leave rows of before out. what: the parameter that asks."""
    if installation.index_format < needed and await standing(connection) < needed:
        text = "rows of an earlier version of the server are still being indexed for this; ask again later"
        raise NotSupported(text, at=what)


async def standing(connection: "Connection") -> int:
    found: int = await connection.fetchval(_STANDING)
    return found


async def raised(connection: "Connection", to: int) -> None:
    """Keep what a job has reached, which is not kept as long."""
    await connection.execute(_RAISE, to)
