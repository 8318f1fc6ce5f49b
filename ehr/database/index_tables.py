"""Tables of the search index that no search reads, on the record's metadata."""

from typing import Final

from sqlalchemy import Column, Identity, Index, Integer, SmallInteger, Table, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ehr.database.tables import C_TEXT, MOMENT, metadata

LIVE: Final = "state in ('backfilling', 'serving')"

search_parameter = Table(
    "search_parameter",
    metadata,
    # Parameters this installation has added, one row a base type; an id is inside hashes and is never used again.
    # state: backfilling → serving → retiring → retired. pending: chunks of the job that brings the index there.
    Column("id", Integer, Identity(start=1_000_000), primary_key=True),
    Column("base", C_TEXT, nullable=False),  # a resource type; "Resource": all of them
    Column("code", C_TEXT, nullable=False),
    Column("resource_id", C_TEXT, nullable=False, index=True),  # of the SearchParameter that declares it
    Column("definition", JSONB, nullable=False),  # ehr.fhir.declared
    Column("slot", SmallInteger, nullable=False),
    Column("state", C_TEXT, nullable=False, server_default=text("'backfilling'")),
    Column("job_id", C_TEXT, nullable=False),
    Column("pending", ARRAY(Integer), nullable=False),
    Column("declared", MOMENT, nullable=False, server_default=func.now()),
    Index("search_parameter_code_ix", "base", "code", unique=True, postgresql_where=text(LIVE)),
)
