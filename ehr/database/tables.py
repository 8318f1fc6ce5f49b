"""Every table of the record on one page. alembic/versions must equal this (tests/migrations).

Conventions
  type_id   smallint   ehr.fhir.r4.TYPE_IDS; permanent, never renumbered
  rid       bigint     grows monotonically with creation; the page cursor and the join key
  shard     bigint     keyed hash of the compartment's source Patient, else of the resource's own id;
                       the distribution column on Citus, a clustering column on one machine
  source    integer    facility.id that sent it; 0 = the city itself
  *_us      bigint     microseconds since 1970-01-01T00:00Z, so that years 0001 to 9999 fit
  xid       xid8       the writing transaction; below pg_snapshot_xmin all of them have ended
  seq       bigint     the order of versions within their transaction
  op        text       what made a version: C create, P create under an id that was sent, U update, D delete
Columns of the large tables stand by width, the widest first, because PostgreSQL fills the gaps between with nothing.
Terminology's tables are in terminology/tables.py, because that room knows nobody.
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    column,
    event,
    func,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "fk": "%(table_name)s_%(column_0_N_name)s_fk",
        "pk": "%(table_name)s_pk",
    }
)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, which never wraps."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class PgSnapshot(UserDefinedType[str]):
    """Which transactions were done at a moment."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "pg_snapshot"


C_TEXT: Final = Text(collation="C")
MOMENT: Final = DateTime(timezone=True)
THIS_TRANSACTION: Final = text("pg_current_xact_id()")

resource_rid = Sequence("resource_rid", metadata=metadata, cache=1)
change_seq = Sequence("change_seq", metadata=metadata, cache=1)

installation = Table(
    "installation",
    metadata,
    # One row. hash_key seeds every 64-bit hash; cursor_key signs page cursors. Written by the first migration.
    # index_version: of the parameters that rows are indexed by (search_parameter); index_format: ehr.index.formats.
    Column("id", SmallInteger, primary_key=True, autoincrement=False, server_default=text("1")),
    Column("hash_key", BigInteger, nullable=False),
    Column("cursor_key", LargeBinary, nullable=False),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    Column("index_version", Integer, nullable=False, server_default=text("0")),
    Column("index_format", Integer, nullable=False, server_default=text("0")),
)

resource = Table(
    "resource",
    metadata,
    # The current version of every resource that is not deleted. Partitioned by list of type_id: the clinical
    # types have partitions of their own, the rest share the default one; ehr.database.partitions says which, what
    # keeps numbers and ids apart in each, and what indexes it has beside those that stand here.
    Column("rid", BigInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Column("updated", MOMENT, nullable=False),
    Column("xid", Xid8, nullable=False, server_default=THIS_TRANSACTION),
    Column("seq", BigInteger, nullable=False, server_default=change_seq.next_value()),
    Column("date_lo_us", BigInteger),  # the type's main date parameter, as a range
    Column("date_hi_us", BigInteger),
    Column("version", Integer, nullable=False),
    Column("source", Integer, nullable=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("op", C_TEXT, nullable=False, server_default=text("'P'")),  # of what an import brings
    Column("id", C_TEXT, nullable=False),
    Column("tokens", ARRAY(BigInteger), nullable=False),
    Column("body", LargeBinary, nullable=False),  # zstd frame of the JSON as sent, with meta set
    Index("resource_tokens_ix", "tokens", postgresql_using="gin", postgresql_with={"fastupdate": "on"}),
    postgresql_partition_by="LIST (type_id)",
)

resource_history = Table(
    "resource_history",
    metadata,
    # Superseded versions and tombstones (body is null); append-only.
    Column("rid", BigInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Column("updated", MOMENT, nullable=False),
    Column("xid", Xid8, nullable=False),
    Column("seq", BigInteger, nullable=False, server_default=change_seq.next_value()),
    Column("version", Integer, nullable=False),
    Column("source", Integer, nullable=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("op", C_TEXT, nullable=False),
    Column("id", C_TEXT, nullable=False),
    Column("body", LargeBinary),
    PrimaryKeyConstraint("type_id", "rid", "version"),
    Index("resource_history_id_ix", "type_id", "id", text("version DESC")),
    Index("resource_history_feed_ix", "xid", "seq"),
    Index("resource_history_type_feed_ix", "type_id", "xid", "seq"),
    Index("resource_history_deleted_ix", "type_id", "updated", postgresql_where=text("op = 'D'")),
)

change = table(
    "change",
    # The feed, a view: every version stands in one of the two tables, and says when it was written. Readers take rows
    # below pg_snapshot_xmin(pg_current_snapshot()), in (xid, seq) order.
    column("xid", Xid8()),
    column("seq", BigInteger()),
    column("type_id", SmallInteger()),
    column("rid", BigInteger()),
    column("id", C_TEXT),
    column("version", Integer()),
    column("op", C_TEXT),
    column("shard", BigInteger()),
    column("source", Integer()),
    column("updated", MOMENT),
)
_CHANGED: Final = ", ".join(change.c.keys())
CHANGE_VIEW: Final = f"""
CREATE VIEW change AS SELECT {_CHANGED} FROM resource UNION ALL SELECT {_CHANGED} FROM resource_history
"""  # noqa: S608 - constants of ours
STRING_STATISTICS: Final = "CREATE STATISTICS string_index_value_st (mcv) ON param_id, value FROM string_index"
"""A third of a city has one family name: without these the planner expects a fifth of them (docs/adr/0120)."""


@event.listens_for(metadata, "after_create")
def _create_beside(_: MetaData, connection: Connection, **__: Any) -> None:
    connection.exec_driver_sql(CHANGE_VIEW)
    connection.exec_driver_sql(STRING_STATISTICS)


string_index = Table(
    "string_index",
    metadata,
    # value is folded: NFC, case folded, accents removed, đ → d (ehr.index.normalize). :exact is a token.
    Column("param_id", Integer, nullable=False),
    Column("value", C_TEXT, nullable=False),
    Column("rid", BigInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Index("string_index_value_ix", "param_id", "value", "rid"),
    Index("string_index_rid_ix", "rid"),
)

date_index = Table(
    "date_index",
    metadata,
    # Date parameters other than the main one of the type.
    Column("param_id", Integer, nullable=False),
    Column("lo_us", BigInteger, nullable=False),
    Column("hi_us", BigInteger, nullable=False),
    Column("rid", BigInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Index("date_index_lo_ix", "param_id", "lo_us", "rid"),
    Index("date_index_hi_ix", "param_id", "hi_us", "rid"),
    Index("date_index_rid_ix", "rid"),
)

quantity_index = Table(
    "quantity_index",
    metadata,
    # Numbers and quantities. code and system are keyed hashes, 0 where absent (numbers have neither).
    Column("param_id", Integer, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("code", BigInteger, nullable=False),
    Column("system", BigInteger, nullable=False),
    Column("rid", BigInteger, nullable=False),
    Column("shard", BigInteger, nullable=False),
    Index("quantity_index_value_ix", "param_id", "code", "value", "rid"),
    Index("quantity_index_rid_ix", "rid"),
)

term = Table(
    "term",
    metadata,
    # Distinct texts and units (ehr.index.term); without a unique key, so that writers never wait for one another.
    Column("param_id", Integer, nullable=False),
    Column("value", C_TEXT, nullable=False),
    Index("term_value_ix", "param_id", "value"),
)

zstd_dictionary = Table(
    "zstd_dictionary",
    metadata,
    # Numbered, never changed, never deleted: bodies written with one need it for ever.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("bytes", LargeBinary, nullable=False),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
)

claim = Table(
    "claim",
    metadata,
    # Who owns an identifier or a conditional-create criterion. scope: 0 the city, else facility.id.
    # Inserted in the transaction of the write; the primary key makes races impossible.
    Column("scope", Integer, nullable=False),
    Column("type_id", SmallInteger, nullable=False),
    Column("key", C_TEXT, nullable=False),  # "system|value", or the normalised criteria
    Column("id", C_TEXT, nullable=False),
    PrimaryKeyConstraint("scope", "type_id", "key"),
    Index("claim_id_ix", "type_id", "id"),
)

person_link = Table(
    "person_link",
    metadata,
    # Person.link, one row a source Patient; written in the transaction that writes the Person.
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("patient_id", C_TEXT, nullable=False),
    Column("person_id", C_TEXT, nullable=False),
    Column("assurance", C_TEXT, nullable=False),
    Index("person_link_person_id_ix", "person_id"),
)

feed_cursor = Table(
    "feed_cursor",
    metadata,
    # Where each reader of the feed stands.
    Column("reader", C_TEXT, primary_key=True),
    Column("xid", Xid8, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("moved", MOMENT, nullable=False, server_default=func.now()),
)

outbox = Table(
    "outbox",
    metadata,
    # What must happen because of a commit; one row a (topic, key), drained by workers at least once.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("topic", C_TEXT, nullable=False),
    Column("key", C_TEXT, nullable=False),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    Column("due", MOMENT, nullable=False, server_default=func.now()),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("error", Text),
    Index("outbox_topic_due_ix", "topic", "due"),
)

idempotency = Table(
    "idempotency",
    metadata,
    # Idempotency-Key of a client and the answer it got.
    Column("client", C_TEXT, nullable=False),
    Column("key", C_TEXT, nullable=False),
    Column("request_sha256", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("client", "key"),
)

audit = Table(
    "audit",
    metadata,
    # Append-only. One row an access; committed with the authorisation of the answer.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("at", MOMENT, nullable=False, server_default=func.now()),
    Column("actor_kind", C_TEXT, nullable=False),  # Caller.kind
    Column("actor", C_TEXT, nullable=False),  # Caller.id
    Column("facility_id", Integer, nullable=False, server_default=text("0")),
    Column("action", C_TEXT, nullable=False),  # R read, S search, C create, U update, D delete, E execute
    Column("type_id", SmallInteger),
    Column("resource_id", C_TEXT),
    Column("shard", BigInteger),  # the patient whose data it was, where there is one
    Column("person_id", C_TEXT),
    Column("purpose", C_TEXT, nullable=False, server_default=text("'TREAT'")),
    Column("detail", JSONB),  # never names, numbers or codes of a person; query text with values hashed
    Index("audit_shard_ix", "shard", "at", postgresql_where=text("shard IS NOT NULL")),
    Index("audit_person_ix", "person_id", "at", postgresql_where=text("person_id IS NOT NULL")),
)

facility = Table(
    "facility",
    metadata,
    # Who may send. The Organization and Location resources carry the same code.
    Column("id", Integer, Identity(), primary_key=True),
    Column("code", C_TEXT, nullable=False, unique=True),  # MACSKCB, 5 characters
    Column("name", Text, nullable=False),
    Column("kind", C_TEXT, nullable=False),  # station, centre, hospital, other
    Column("feed", C_TEXT, nullable=False),  # hl7v2, fhir, claim_xml
    Column("district", Text, nullable=False),
    Column("commune", Text, nullable=False),
    Column("commune_code", C_TEXT, nullable=False),
    Column("organization_id", C_TEXT),
    Column("location_id", C_TEXT),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("registered", MOMENT, nullable=False, server_default=func.now()),
)

client = Table(
    "client",
    metadata,
    # System clients (SMART backend services). Secrets are random 256-bit values, kept as SHA-256.
    Column("id", C_TEXT, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_sha256", LargeBinary),
    Column("jwks", JSONB),
    Column("scopes", Text, nullable=False),
    Column("facility_id", Integer, ForeignKey("facility.id")),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
)

spent = Table(
    "spent",
    metadata,
    # Values that may be used once: jti of client assertions and of citizen links. Kept until they expire anyway.
    Column("kind", C_TEXT, nullable=False),
    Column("key", C_TEXT, nullable=False),
    Column("until", MOMENT, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    Index("spent_until_ix", "until"),
)

intake_message = Table(
    "intake_message",
    metadata,
    # The ledger: what a facility sent, byte for byte, durable before it is answered.
    # state: received → applied | refused (the sender must change it) | failed (ours to retry)
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("facility_id", Integer, nullable=False),  # 0 where the sender could not be known
    Column("channel", C_TEXT, nullable=False),  # mllp, fhir, claim_xml, ndjson
    Column("kind", C_TEXT, nullable=False),  # ADT^A01, transaction, GIAMDINHHS …; "?" where unreadable
    Column("control_id", C_TEXT, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("received", MOMENT, nullable=False, server_default=func.now()),
    Column("state", C_TEXT, nullable=False, server_default=text("'received'")),
    Column("finished", MOMENT),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("issues", JSONB),  # [{code, text, at, severity}] of a refusal or failure
    Column("answer", LargeBinary),  # what the sender was answered; a duplicate gets the same
    Column("body", LargeBinary, nullable=False),  # zstd frame of the bytes as received
    UniqueConstraint("facility_id", "control_id", "sha256"),
    Index("intake_message_facility_ix", "facility_id", text("received DESC")),
    Index("intake_message_open_ix", "state", "received", postgresql_where=text("state <> 'applied'")),
)

summary = Table(
    "summary",
    metadata,
    # The IPS document of one person as of a place in the feed; may be thrown away and rebuilt.
    Column("person_id", C_TEXT, primary_key=True),
    Column("xid", Xid8, nullable=False),
    Column("generated", MOMENT, nullable=False),
    Column("etag", C_TEXT, nullable=False),
    Column("body", LargeBinary, nullable=False),  # zstd frame of the Bundle
)
