"""In what format every row of the index is at least: what a later version of the server adds is not in older rows.

FORMAT     what this version writes. A version that changes what is written raises it, and its migration says so of an
           empty store
standing   what is true of all rows (installation.index_format): raised when `ehr db reindex` has been through them
Why        a search that needs what some rows have not would leave them out silently: it is refused until they have it
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ehr.index.write import Connection

TERMS: Final = 1
"""Distinct texts and units (ehr.index.term)."""
CONTAINED: Final = 2
"""Contained resources, and references to them (ehr.index.contained)."""
FORMAT: Final = CONTAINED


async def standing(connection: "Connection") -> int:
    found: int = await connection.fetchval("select index_format from installation")
    return found


async def raised(connection: "Connection") -> None:
    """Every row has been indexed anew."""
    await connection.execute("update installation set index_format = $1 where index_format < $1", FORMAT)
