"""Resources → a table file: Parquet for analysts, CSV, or NDJSON of rows.

In:      a View, or none: then one row a resource (type, id, patient, when it was changed, the resource as JSON)
Out:     the file while it is written, as output.LinesFile is one of lines
Types    boolean, integer and decimal of FHIR are Parquet's boolean, int64 and double; everything else is text, because
         FHIR's dates may be partial. A decimal keeps its digits in CSV and NDJSON, and in a column of type string
Memory   BATCH_ROWS rows
Errors:  Invalid   what ehr.fhir.views refuses; a value that is not of its column's type
"""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from ehr.bulk.output import OutputFile
from ehr.errors import Invalid
from ehr.fhir import codec
from ehr.fhir.compartments import patient_of
from ehr.fhir.views import Column, Row, View
from ehr.store.body import BodyCodec

BATCH_ROWS: Final = 10_000
_INTEGERS: Final = frozenset({"integer", "integer64", "positiveInt", "unsignedInt"})

WHOLE: Final = tuple(
    Column(name, "string", collection=False) for name in ("resource_type", "id", "patient", "last_updated", "resource")
)
"""Columns where there is no view."""


class Table(Protocol):
    """One format."""

    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class TableFile:
    """A file of rows while it is written; not there until it is published."""

    def __init__(self, folder: Path, name: str, view: View | None) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.name = name
        self.count = 0
        self._view = view
        self._place = folder / name
        self._partial = folder / f".{name}.{os.getpid()}"
        self._table = _TABLES[name.rpartition(".")[2]](self._partial, view.columns if view is not None else WHOLE)
        self._waiting: list[Row] = []
        self._completed = False

    def write(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            tree = codec.loads(body)
            self._waiting += self._view.rows(tree) if self._view is not None else [_whole(tree, body)]
            if len(self._waiting) >= BATCH_ROWS:
                self._flush()

    def write_frames(self, frames: Sequence[bytes], bodies: BodyCodec) -> None:
        self.write(map(bodies.decompress, frames))

    def _flush(self) -> None:
        self._table.write(self._waiting)
        self.count += len(self._waiting)
        self._waiting = []

    def complete(self) -> None:
        """Let it be on the disk, and no longer be written to."""
        if not self._completed:
            self._flush()
            self._table.close()
            with self._partial.open("rb") as file:
                os.fsync(file.fileno())
            self._completed = True

    def publish(self, kind: str, type_name: str | None) -> OutputFile:
        """Give it its name."""
        self.complete()
        self._partial.replace(self._place)
        return OutputFile(kind, self.name, type_name, self.count, self._place.stat().st_size)

    def discard(self) -> None:
        self._table.close()
        self._partial.unlink(missing_ok=True)


def _whole(tree: Mapping[str, Any], body: bytes) -> Row:
    meta = tree.get("meta") or {}
    values = (tree["resourceType"], tree["id"], patient_of(tree), meta.get("lastUpdated"), body.decode())
    return dict(zip((one.name for one in WHOLE), values, strict=True))


class Parquet:
    """Row groups of BATCH_ROWS, each column compressed by zstd."""

    def __init__(self, place: Path | BinaryIO, columns: Sequence[Column]) -> None:
        import pyarrow as arrow  # noqa: PLC0415 - 60 MiB that no other process needs
        from pyarrow import parquet  # noqa: PLC0415

        self._arrow = arrow
        self._columns = columns
        self._schema = arrow.schema([arrow.field(one.name, self._type(one)) for one in columns])
        self._writer = parquet.ParquetWriter(place, self._schema, compression="zstd")

    def _type(self, column: Column) -> Any:
        kinds = {"boolean": self._arrow.bool_(), "decimal": self._arrow.float64()}
        kinds |= dict.fromkeys(_INTEGERS, self._arrow.int64())
        plain = kinds.get(column.type or "", self._arrow.string())
        return self._arrow.list_(plain) if column.collection else plain

    def write(self, rows: Sequence[Row]) -> None:
        if rows:
            values = [self._arrow.array(_values(rows, one), self._type(one)) for one in self._columns]
            self._writer.write_batch(self._arrow.record_batch(values, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _values(rows: Sequence[Row], column: Column) -> list[Any]:
    found = (row[column.name] for row in rows)
    if column.collection:
        return [[_typed(one, column) for one in value] for value in found]
    return [_typed(value, column) for value in found]


def _typed(value: Any, column: Column) -> Any:
    """The value as the column's type has it."""
    if value is None:
        return None
    if column.type == "boolean":
        fits = isinstance(value, bool)
    elif column.type in _INTEGERS:
        fits = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    elif column.type == "decimal":
        fits = isinstance(value, int | Decimal | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    else:
        return text_of(value)
    if not fits:
        raise Invalid(f"the column {column.name} has a value that is no {column.type}", at=column.name)
    return value


def text_of(value: Any) -> str:
    """A primitive as FHIR writes it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


class Csv:
    """RFC 4180, with a header; several values of a column are a JSON array."""

    def __init__(self, place: Path, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._file = place.open("w", encoding="utf-8", newline="")
        self._file.write(csv_of([[one.name for one in columns]]))

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write(csv_of(cells(rows, self._columns)))

    def close(self) -> None:
        self._file.close()


def cells(rows: Iterable[Row], columns: Sequence[Column]) -> Iterator[list[str]]:
    """Rows as texts; what is absent is empty."""
    for row in rows:
        yield [_cell(row[one.name]) for one in columns]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return codec.dumps(value).decode() if isinstance(value, list) else text_of(value)


def csv_of(lines: Iterable[Sequence[str]]) -> str:
    made = StringIO()
    csv.writer(made).writerows(lines)
    return made.getvalue()


class Lines:
    """NDJSON: one object a row, digits as they were sent."""

    def __init__(self, place: Path, _: Sequence[Column]) -> None:
        self._file = place.open("wb")

    def write(self, rows: Sequence[Row]) -> None:
        self._file.write(b"".join(codec.dumps(row) + b"\n" for row in rows))

    def close(self) -> None:
        self._file.close()


_TABLES: Final[Mapping[str, Callable[[Path, Sequence[Column]], Table]]] = {
    "parquet": Parquet,
    "csv": Csv,
    "ndjson": Lines,
}
