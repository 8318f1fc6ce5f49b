"""$viewdefinition-run over HTTP: a ViewDefinition in a Parameters resource → rows as JSON, NDJSON, CSV or Parquet.

In:      viewResource; resource (rows of these, not of the store) or patient, _since; _limit; format, header
Out:     the rows, in the type of their format
Also     at ViewDefinition/$viewdefinition-run and ViewDefinition/$run, where the guide and its older form have it
Source:  SQL on FHIR v2, $viewdefinition-run
"""

import re
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Final

from ehr import limits
from ehr.api.answer import Answer
from ehr.api.exchange import Exchange, Handler
from ehr.api.moments import since_of
from ehr.api.operation import Binding, table
from ehr.bulk.table_file import Parquet, cells, csv_of
from ehr.errors import Malformed, NotSupported, TooMuch
from ehr.fhir import codec
from ehr.fhir.operation_arguments import Arguments
from ehr.fhir.views import Row, View
from ehr.operations.viewdefinition_run import run_view

_PATIENT: Final = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})", re.ASCII)


async def run_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """Run the view, over what was sent or over the store."""
    name = arguments.one("format") or arguments.one("_format") or "json"
    if name not in _FORMATS:
        raise NotSupported("the formats are json, ndjson, csv and parquet", at="format")
    view = View(arguments.one("viewResource"))
    limit = arguments.one("_limit")
    if limit is not None and limit < 1:
        raise Malformed("a number of rows, 1 or more, is wanted", at="_limit")
    if limit is not None and limit > limits.view_rows_max:
        raise TooMuch(f"at most {limits.view_rows_max} rows are answered; export the view instead", at="_limit")
    given = arguments.many("resource")
    if given:
        if arguments.many("patient") or arguments.one("_since"):
            raise Malformed("patient and _since choose from the store; resource brings its own", at="resource")
        rows = [row for one in given for row in view.rows(one)][:limit]
    else:
        rows = await run_view(
            exchange.record,
            exchange.caller,
            view,
            patients=_patients(arguments),
            since=since_of(arguments.one("_since")),
            limit=limit,
        )
    media, render = _FORMATS[name]
    header = arguments.one("header") is not False
    return Answer(200, render(view, rows, header), [(b"content-type", media)])


def _patients(arguments: Arguments) -> list[str] | None:
    texts = [one.get("reference", "") for one in arguments.many("patient")]
    found = [_PATIENT.fullmatch(text) for text in texts]
    if not all(found):
        raise Malformed("a reference as in Patient/123 is wanted", at="patient")
    return [one[1] for one in found if one] or None


def _json(_: View, rows: Sequence[Row], __: bool) -> bytes:
    return codec.dumps(list(rows))


def _ndjson(_: View, rows: Sequence[Row], __: bool) -> bytes:
    return b"".join(codec.dumps(row) + b"\n" for row in rows)


def _csv(view: View, rows: Sequence[Row], header: bool) -> bytes:
    first = [[one.name for one in view.columns]] if header else []
    return csv_of([*first, *cells(rows, view.columns)]).encode()


def _parquet(view: View, rows: Sequence[Row], _: bool) -> bytes:
    made = BytesIO()
    file = Parquet(made, view.columns)
    file.write(rows)
    file.close()
    return made.getvalue()


_FORMATS: Final[Mapping[str, tuple[bytes, Callable[[View, Sequence[Row], bool], bytes]]]] = MappingProxyType(
    {
        "json": (b"application/json", _json),
        "application/json": (b"application/json", _json),
        "ndjson": (b"application/x-ndjson", _ndjson),
        "application/x-ndjson": (b"application/x-ndjson", _ndjson),
        "csv": (b"text/csv; charset=utf-8", _csv),
        "text/csv": (b"text/csv; charset=utf-8", _csv),
        "parquet": (b"application/vnd.apache.parquet", _parquet),
        "application/vnd.apache.parquet": (b"application/vnd.apache.parquet", _parquet),
    }
)

BINDING: Final = Binding("viewdefinition-run", run_of, bytes_max=limits.bundle_bytes_max)


def aliases() -> list[tuple[str, Mapping[str, Handler]]]:
    """The addresses below a type that R4 does not have."""
    handlers = [handlers for _, handlers in table([BINDING])]
    return [(f"/fhir/ViewDefinition/{name}", one) for one in handlers for name in ("$viewdefinition-run", "$run")]
