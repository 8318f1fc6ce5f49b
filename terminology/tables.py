"""Every table of terminology on one page. alembic/versions must equal this too (tests/migrations).

Conventions
  version    text   business version, '' where the publisher gives none: it is part of a key
  language   text   BCP 47; of a code system: that of its displays; designations hold the other languages
  digest     bytea  SHA-256 of what was loaded: loading the same again changes nothing
"""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
        "uq": "%(table_name)s_%(column_0_N_name)s_uq",
        "fk": "%(table_name)s_%(column_0_N_name)s_fk",
        "pk": "%(table_name)s_pk",
    }
)

C_TEXT: Final = Text(collation="C")
MOMENT: Final = DateTime(timezone=True)


def _key() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _loaded() -> list[Column[Any]]:
    """What every loaded thing is known by, and where it came from."""
    return [
        Column("url", C_TEXT, nullable=False),
        Column("version", C_TEXT, nullable=False, server_default=text("''")),
        Column("title", Text, nullable=False, server_default=text("''")),
        Column("file_name", Text, nullable=False),
        Column("digest", LargeBinary, nullable=False),
        Column("loaded", MOMENT, nullable=False, server_default=func.now()),
    ]


def _of(table: str) -> Column[int]:
    return Column(f"{table}_id", BigInteger, ForeignKey(f"{table}.id", ondelete="CASCADE"), nullable=False)


code_system = Table(
    "code_system",
    metadata,
    _key(),
    *_loaded(),
    Column("language", C_TEXT, nullable=False),
    Column("concept_count", Integer, nullable=False),
    Column("content", C_TEXT, nullable=False, server_default=text("'complete'")),  # or fragment, example
    Column("case_sensitive", Boolean, nullable=False, server_default=text("true")),
    Column("value_set", C_TEXT, nullable=False, server_default=text("''")),  # canonical url of that with all codes
    Column("meaning", C_TEXT, nullable=False, server_default=text("''")),  # of its hierarchy
    UniqueConstraint("url", "version"),
)

concept = Table(
    "concept",
    metadata,
    _of("code_system"),
    Column("code", C_TEXT, nullable=False),
    Column("place", Integer, nullable=False),  # position in the published order
    Column("parents", ARRAY(C_TEXT), nullable=False, server_default=text("'{}'")),  # codes right above
    Column("display", Text, nullable=False),
    Column("selectable", Boolean, nullable=False, server_default=text("true")),  # false: a heading
    Column("properties", JSONB, nullable=False, server_default=text("'{}'")),  # code → [{value[x]}]
    Column("definition", Text, nullable=False, server_default=text("''")),
    Column("active", Boolean, nullable=False, server_default=text("true")),  # false: no longer to be used
    PrimaryKeyConstraint("code_system_id", "code"),
    Index(None, "parents", postgresql_using="gin"),
)

designation = Table(
    "designation",
    metadata,
    _of("code_system"),
    Column("code", C_TEXT, nullable=False),
    Column("language", C_TEXT, nullable=False),  # '' where the publisher does not say
    Column("value", Text, nullable=False),
    Column("place", Integer, nullable=False, server_default=text("0")),  # among those of its code
    Column("use", JSONB),  # a Coding
    PrimaryKeyConstraint("code_system_id", "code", "place"),
)

value_set = Table(
    "value_set",
    metadata,
    _key(),
    *_loaded(),
    UniqueConstraint("url", "version"),
)

value_set_code = Table(
    "value_set_code",
    metadata,
    # The expansion, made when the value set was loaded.
    _of("value_set"),
    Column("system", C_TEXT, nullable=False),
    Column("code", C_TEXT, nullable=False),
    Column("display", Text, nullable=False, server_default=text("''")),
    Column("place", Integer, nullable=False, server_default=text("0")),  # position in the expansion
    Column("designations", JSONB),  # what the value set itself calls it, each as a Designation
    PrimaryKeyConstraint("value_set_id", "system", "code"),
)

concept_map = Table(
    "concept_map",
    metadata,
    _key(),
    *_loaded(),
    Column("source", C_TEXT, nullable=False, server_default=text("''")),  # value set, '' where the map names none
    Column("target", C_TEXT, nullable=False, server_default=text("''")),
    Column("groups", JSONB, nullable=False, server_default=text("'[]'")),  # each as terminology.resources.Group
    UniqueConstraint("url", "version"),
)

concept_map_entry = Table(
    "concept_map_entry",
    metadata,
    _of("concept_map"),
    Column("place", Integer, nullable=False),  # position in the published order
    Column("group_place", Integer, nullable=False),  # of its group in concept_map.groups
    Column("source_code", C_TEXT, nullable=False),
    Column("target_code", C_TEXT, nullable=False),  # '' where the map says that there is no match
    Column("equivalence", C_TEXT, nullable=False),
    Column("source_display", Text, nullable=False, server_default=text("''")),
    Column("target_display", Text, nullable=False, server_default=text("''")),
    Column("depends_on", JSONB, nullable=False, server_default=text("'[]'")),  # each as an Attribute
    Column("product", JSONB, nullable=False, server_default=text("'[]'")),
    PrimaryKeyConstraint("concept_map_id", "place"),
    Index(None, "concept_map_id", "source_code"),
    Index(None, "concept_map_id", "target_code"),
)
