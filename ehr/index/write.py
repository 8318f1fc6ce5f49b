"""IndexRows → the three side tables. Tokens and the main date are columns of resource: the store writes those.

In:      a connection inside the writer's transaction
Why COPY: one round trip a table, whatever the number of rows
"""

from collections.abc import Iterable
from typing import Final

from ehr.database.connection import Connection
from ehr.index.extract import IndexRows

COLUMNS: Final = {
    "string_index": ("param_id", "value", "rid", "shard"),
    "date_index": ("param_id", "lo_us", "hi_us", "rid", "shard"),
    "quantity_index": ("param_id", "value", "code", "system", "rid", "shard"),
}
"""Side tables and the order of the columns in their COPY."""


async def insert(connection: "Connection", many: Iterable[tuple[int, IndexRows]]) -> None:
    for table, records in side_records(many).items():
        if records:
            await connection.copy_records_to_table(table, records=records, columns=COLUMNS[table])


def side_records(many: Iterable[tuple[int, IndexRows]]) -> dict[str, list[tuple[object, ...]]]:
    """Table → records in the order of COLUMNS. Pure; the bulk loader encodes them itself."""
    made: dict[str, list[tuple[object, ...]]] = {table: [] for table in COLUMNS}
    strings, dates, quantities = made.values()
    for rid, rows in many:
        shard = rows.shard
        strings += [(param_id, value, rid, shard) for param_id, value in rows.strings]
        dates += [(param_id, low, high, rid, shard) for param_id, low, high in rows.dates]
        quantities += [(param_id, value, code, system, rid, shard) for param_id, value, code, system in rows.quantities]
    return made
