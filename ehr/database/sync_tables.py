"""Tables of the social insurance synchronisation (sync/), on the record's metadata.

A finished insured episode becomes one dossier (HOSO, MA_LK); dossiers of one facility travel in a batch.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from ehr.database.tables import C_TEXT, MOMENT, metadata

sync_batch = Table(
    "sync_batch",
    metadata,
    # state: open → sealed → sent → answered → reconciled; a sealed body never changes.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("facility_id", Integer, ForeignKey("facility.id"), nullable=False),
    Column("state", C_TEXT, nullable=False, server_default=text("'open'")),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    Column("sealed", MOMENT),
    Column("sent", MOMENT),
    Column("answered", MOMENT),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("sha256", LargeBinary),
    Column("body", LargeBinary),  # zstd frame of the GIAMDINHHS envelope as sent
    Column("dossier_count", Integer, nullable=False, server_default=text("0")),
    Column("t_bhtt", Numeric(18, 2), nullable=False, server_default=text("0")),  # đồng claimed
    Column("ma_giao_dich", C_TEXT),
    Column("answer", JSONB),
    Index("sync_batch_open_ix", "state", "created", postgresql_where=text("state <> 'reconciled'")),
)

sync_dossier = Table(
    "sync_dossier",
    metadata,
    # One episode (MA_LK) and its standing. state: pending → batched → accepted | rejected; withheld = our own
    # check found an error before sending. A change after sending is a new attempt; the last attempt counts.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("ma_lk", C_TEXT, nullable=False),
    Column("facility_id", Integer, ForeignKey("facility.id"), nullable=False),
    Column("encounter_id", C_TEXT, nullable=False),
    Column("encounter_version", Integer, nullable=False),
    Column("batch_id", BigInteger, ForeignKey("sync_batch.id")),
    Column("state", C_TEXT, nullable=False, server_default=text("'pending'")),
    Column("attempt", SmallInteger, nullable=False, server_default=text("1")),
    Column("t_tongchi_bv", Numeric(18, 2), nullable=False, server_default=text("0")),
    Column("t_bhtt", Numeric(18, 2), nullable=False, server_default=text("0")),
    Column("error_code", C_TEXT),
    Column("error_text", Text),
    Column("hoso_sha256", LargeBinary),  # of the HOSO as sealed: the same content is not sent twice
    Column("claim_id", C_TEXT),
    Column("claim_response_id", C_TEXT),
    Column("created", MOMENT, nullable=False, server_default=func.now()),
    UniqueConstraint("facility_id", "ma_lk", "attempt"),
    Index("sync_dossier_state_ix", "state", "facility_id"),
    Index("sync_dossier_batch_ix", "batch_id"),
)

sync_quarantine = Table(
    "sync_quarantine",
    metadata,
    # Answers that fit no batch, or contradict what was sent. Nothing of them was applied; a person must look.
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("received", MOMENT, nullable=False, server_default=func.now()),
    Column("facility_id", Integer),
    Column("ma_giao_dich", C_TEXT, nullable=False),
    Column("reason", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False),  # of the answer: the same one is kept once
    Column("answer", JSONB, nullable=False),
    UniqueConstraint("ma_giao_dich", "sha256"),
)
