"""Code lists: the tables of terminology.tables."""

from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE code_system (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    url TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    title TEXT DEFAULT '' NOT NULL,
    file_name TEXT NOT NULL,
    digest BYTEA NOT NULL,
    loaded TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    language TEXT COLLATE "C" NOT NULL,
    concept_count INTEGER NOT NULL,
    CONSTRAINT code_system_pk PRIMARY KEY (id),
    CONSTRAINT code_system_url_version_uq UNIQUE (url, version)
);

CREATE TABLE concept_map (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    url TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    title TEXT DEFAULT '' NOT NULL,
    file_name TEXT NOT NULL,
    digest BYTEA NOT NULL,
    loaded TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT concept_map_pk PRIMARY KEY (id),
    CONSTRAINT concept_map_url_version_uq UNIQUE (url, version)
);

CREATE TABLE value_set (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    url TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" DEFAULT '' NOT NULL,
    title TEXT DEFAULT '' NOT NULL,
    file_name TEXT NOT NULL,
    digest BYTEA NOT NULL,
    loaded TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT value_set_pk PRIMARY KEY (id),
    CONSTRAINT value_set_url_version_uq UNIQUE (url, version)
);

CREATE TABLE concept (
    code_system_id BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    place INTEGER NOT NULL,
    parent TEXT COLLATE "C",
    display TEXT NOT NULL,
    selectable BOOLEAN DEFAULT true NOT NULL,
    properties JSONB DEFAULT '{}' NOT NULL,
    CONSTRAINT concept_pk PRIMARY KEY (code_system_id, code),
    CONSTRAINT concept_code_system_id_fk
        FOREIGN KEY(code_system_id) REFERENCES code_system (id) ON DELETE CASCADE
);

CREATE INDEX concept_code_system_id_parent_ix ON concept (code_system_id, parent);

CREATE TABLE concept_map_entry (
    concept_map_id BIGINT NOT NULL,
    source_system TEXT COLLATE "C" NOT NULL,
    source_code TEXT COLLATE "C" NOT NULL,
    target_system TEXT COLLATE "C" NOT NULL,
    target_code TEXT COLLATE "C" NOT NULL,
    equivalence TEXT COLLATE "C" NOT NULL,
    CONSTRAINT concept_map_entry_pk
        PRIMARY KEY (concept_map_id, source_system, source_code, target_system, target_code),
    CONSTRAINT concept_map_entry_concept_map_id_fk
        FOREIGN KEY(concept_map_id) REFERENCES concept_map (id) ON DELETE CASCADE
);

CREATE TABLE designation (
    code_system_id BIGINT NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    language TEXT COLLATE "C" NOT NULL,
    value TEXT NOT NULL,
    CONSTRAINT designation_pk PRIMARY KEY (code_system_id, code, language),
    CONSTRAINT designation_code_system_id_fk
        FOREIGN KEY(code_system_id) REFERENCES code_system (id) ON DELETE CASCADE
);

CREATE TABLE value_set_code (
    value_set_id BIGINT NOT NULL,
    system TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL,
    display TEXT DEFAULT '' NOT NULL,
    CONSTRAINT value_set_code_pk PRIMARY KEY (value_set_id, system, code),
    CONSTRAINT value_set_code_value_set_id_fk
        FOREIGN KEY(value_set_id) REFERENCES value_set (id) ON DELETE CASCADE
);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute(
        "drop table concept_map_entry, value_set_code, designation, concept, concept_map, value_set, code_system"
    )
