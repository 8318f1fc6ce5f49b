"""A file of codes → rows of the database, once.

In:      FHIR JSON (CodeSystem, ValueSet, ConceptMap, Bundle) or a CSV list of terminology.read_csv; .gz too
Out:     Loaded per code system, value set and concept map; unchanged where the same content was loaded before
Order:   inside the caller's transaction, one file each: a reader sees all of it or nothing. Another content under
         the same url and version replaces what was there.
Errors:  Unreadable  nothing of the file is stored
Source:  FHIR R4 4.8 to 4.10; the lists named in terminology.read_csv
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from terminology import read_csv, read_fhir
from terminology.connection import Connection
from terminology.errors import Unreadable
from terminology.expand import Tables, expand
from terminology.resources import CodeSystem, Concept, ConceptMap, Loadable, ValueSet

Progress = Callable[[int, int], None]
"""Is told how many rows are stored, of how many."""

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
"""A file once unpacked: the largest national list of 2026 is 30 MB, LOINC as a CodeSystem 150 MB."""

ROWS_AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """kind: CodeSystem, ValueSet or ConceptMap; count: its concepts, codes or mappings."""

    kind: str
    url: str
    version: str
    count: int
    changed: bool


async def load(
    connection: Connection,
    file: Path,
    *,
    system: str | None = None,
    version: str | None = None,
    title: str | None = None,
    progress: Progress | None = None,
) -> list[Loaded]:
    """Load one file. system, version and title are those of a plain CSV list; the other formats name their own."""
    body = _read(file)
    things = read(body, file.name, system=system, version=version, title=title)
    total = sum(_size(thing) for thing in things)
    done = 0

    def told(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, max(total, done))

    assert connection.is_in_transaction(), "half a list would be worse than none: the caller begins a transaction"
    await connection.execute("select pg_advisory_xact_lock(hashtext('terminology.load'))")
    return [await _store(connection, thing, file.name, told) for thing in things]


def read(
    body: bytes, name: str, *, system: str | None = None, version: str | None = None, title: str | None = None
) -> list[Loadable]:
    """What the bytes of a file hold; the name tells CSV from JSON."""
    if name.removesuffix(".gz").endswith(".csv"):
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unreadable(f"byte {error.start} is not UTF-8") from error
        return read_csv.read(text, system=system, version=version, title=title)
    return read_fhir.read(body)


def _read(file: Path) -> bytes:
    """FileNotFoundError is the caller's to tell."""
    try:
        if file.suffix != ".gz":
            body = file.read_bytes()
        else:
            with gzip.open(file) as packed:
                body = packed.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Unreadable("is not a whole gzip file") from error
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(body) > FILE_BYTES_MAX:
        raise Unreadable(f"has more than {FILE_BYTES_MAX} bytes")
    return body


def _size(thing: Loadable) -> int:
    match thing:
        case CodeSystem():
            return len(thing.concepts)
        case ValueSet():
            return len(thing.expansion or ())
        case ConceptMap():
            return len(thing.entries)


async def _store(connection: Connection, thing: Loadable, file_name: str, told: Callable[[int], None]) -> Loaded:
    match thing:
        case CodeSystem():
            return await _store_code_system(connection, thing, file_name, told)
        case ValueSet():
            return await _store_value_set(connection, thing, file_name, told)
        case ConceptMap():
            return await _store_concept_map(connection, thing, file_name, told)


_UNCHANGED: Final = {
    "code_system": "select 1 from code_system where url = $1 and version = $2 and digest = $3",
    "value_set": "select 1 from value_set where url = $1 and version = $2 and digest = $3",
    "concept_map": "select 1 from concept_map where url = $1 and version = $2 and digest = $3",
}
_DELETE: Final = {
    "code_system": "delete from code_system where url = $1 and version = $2",
    "value_set": "delete from value_set where url = $1 and version = $2",
    "concept_map": "delete from concept_map where url = $1 and version = $2",
}
_INSERT_CODE_SYSTEM: Final = """
insert into code_system (url, version, digest, title, file_name, language, concept_count, content, case_sensitive,
  value_set, meaning)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) returning id"""
_INSERT_VALUE_SET: Final = """
insert into value_set (url, version, digest, title, file_name) values ($1, $2, $3, $4, $5) returning id"""
_INSERT_CONCEPT_MAP: Final = """
insert into concept_map (url, version, digest, title, file_name, source, target, groups)
values ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb) returning id"""
_INSERT_CONCEPTS: Final = """
insert into concept (code_system_id, code, place, parents, display, selectable, active, definition, properties)
select $1, code, place, array(select jsonb_array_elements_text(parents::jsonb)), display, selectable, active,
  definition, properties::jsonb
from unnest($2::text[], $3::integer[], $4::text[], $5::text[], $6::boolean[], $7::boolean[], $8::text[], $9::text[])
  as given (code, place, parents, display, selectable, active, definition, properties)"""
_INSERT_DESIGNATIONS: Final = """
insert into designation (code_system_id, code, place, language, value, use)
select $1, code, place, language, value, use::jsonb
from unnest($2::text[], $3::integer[], $4::text[], $5::text[], $6::text[])
  as given (code, place, language, value, use)"""
_INSERT_CODES: Final = """
insert into value_set_code (value_set_id, place, system, code, display, designations)
select $1, place - 1, system, code, display, designations::jsonb
from unnest($2::text[], $3::text[], $4::text[], $5::text[])
  with ordinality as given (system, code, display, designations, place)"""
_INSERT_MAPPED: Final = """
insert into concept_map_entry (concept_map_id, place, group_place, source_code, target_code, equivalence,
  source_display, target_display, depends_on, product)
select $1, place, g, sc, tc, e, sd, td, d::jsonb, p::jsonb
from unnest($2::integer[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
  $10::text[]) as given (place, g, sc, tc, e, sd, td, d, p)"""


async def _is_known(connection: Connection, table: str, url: str, version: str, digest: bytes) -> bool:
    """Whether the same content is there already; what is there under the same name otherwise is taken out."""
    if await connection.fetchval(_UNCHANGED[table], url, version, digest):
        return True
    await connection.execute(_DELETE[table], url, version)
    return False


def _digest(*parts: object) -> bytes:
    """SHA-256 of what would be stored, so that the same list in another file or order of keys is the same."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).digest()


async def _store_code_system(
    connection: Connection, it: CodeSystem, file_name: str, told: Callable[[int], None]
) -> Loaded:
    digest = _digest(it, list(it.concepts))
    count = len(it.concepts)
    if await _is_known(connection, "code_system", it.url, it.version, digest):
        told(count)
        return Loaded("CodeSystem", it.url, it.version, count, changed=False)
    named = (it.url, it.version, digest, it.title, file_name, it.language, count)
    said = (it.content, it.case_sensitive, it.value_set, it.meaning)
    key = await connection.fetchval(_INSERT_CODE_SYSTEM, *named, *said)
    listed = list(it.concepts.values())
    for begin in range(0, count, ROWS_AT_ONCE):
        part = listed[begin : begin + ROWS_AT_ONCE]
        await _store_concepts(connection, key, begin, part)
        told(len(part))
    return Loaded("CodeSystem", it.url, it.version, count, changed=True)


async def _store_concepts(connection: Connection, key: int, begin: int, part: Sequence[Concept]) -> None:
    await connection.execute(
        _INSERT_CONCEPTS,
        key,
        [one.code for one in part],
        list(range(begin, begin + len(part))),
        [_json(one.parents) for one in part],
        [one.display for one in part],
        [one.selectable for one in part],
        [one.active for one in part],
        [one.definition for one in part],
        [_json(one.properties) for one in part],
    )
    named = [(one.code, place, other) for one in part for place, other in enumerate(one.designations)]
    await connection.execute(
        _INSERT_DESIGNATIONS,
        key,
        [code for code, _, _ in named],
        [place for _, place, _ in named],
        [other.language for _, _, other in named],
        [other.value for _, _, other in named],
        [None if other.use is None else _json(other.use) for _, _, other in named],
    )


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


async def _store_value_set(connection: Connection, it: ValueSet, file_name: str, told: Callable[[int], None]) -> Loaded:
    codes = await expand(Tables(connection), it)
    rows = [(system, code, display) for (system, code), display in codes.items()]
    named = [_json(it.designations[key]) if key in it.designations else None for key in codes]
    digest = _digest(it.title, rows, named)
    if await _is_known(connection, "value_set", it.url, it.version, digest):
        told(len(rows))
        return Loaded("ValueSet", it.url, it.version, len(rows), changed=False)
    key = await connection.fetchval(_INSERT_VALUE_SET, it.url, it.version, digest, it.title, file_name)
    await connection.execute(_INSERT_CODES, key, *_columns(rows, 3), named)
    told(len(rows))
    return Loaded("ValueSet", it.url, it.version, len(rows), changed=True)


async def _store_concept_map(
    connection: Connection, it: ConceptMap, file_name: str, told: Callable[[int], None]
) -> Loaded:
    digest = _digest(it)
    count = len(it.entries)
    if await _is_known(connection, "concept_map", it.url, it.version, digest):
        told(count)
        return Loaded("ConceptMap", it.url, it.version, count, changed=False)
    groups = _json(it.groups)
    key = await connection.fetchval(
        _INSERT_CONCEPT_MAP, it.url, it.version, digest, it.title, file_name, it.source, it.target, groups
    )
    await connection.execute(
        _INSERT_MAPPED,
        key,
        list(range(count)),
        [one.group for one in it.entries],
        [one.source_code for one in it.entries],
        [one.target_code for one in it.entries],
        [one.equivalence for one in it.entries],
        [one.source_display for one in it.entries],
        [one.target_display for one in it.entries],
        [_json(one.depends_on) for one in it.entries],
        [_json(one.product) for one in it.entries],
    )
    told(count)
    return Loaded("ConceptMap", it.url, it.version, count, changed=True)


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[list[str]]:
    return [[row[column] for row in rows] for column in range(width)]
