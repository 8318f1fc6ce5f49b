"""Tables of the search index beside those that every search reads, on the record's metadata."""

from typing import Final

from sqlalchemy import BigInteger, Column, Identity, Index, Integer, SmallInteger, Table, func, text
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

contained = Table(
    "contained",
    metadata,
    # Contained resources, for searches with _contained: what the index has of each; the body is the container's.
    # rid: made of the container's and the place among its contained ones (ehr.index.contained); shard: the container's.
    Column("rid", BigInteger, primary_key=True, autoincrement=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Column("container_type", SmallInteger, nullable=False),
    Column("id", C_TEXT, nullable=False),  # its own, without the #
    Column("updated", MOMENT, nullable=False),
    Column("date_lo_us", BigInteger),
    Column("date_hi_us", BigInteger),
    Column("tokens", ARRAY(BigInteger), nullable=False),
    Index("contained_type_ix", "type_id", "rid"),
    Index("contained_tokens_ix", "tokens", postgresql_using="gin"),
)
