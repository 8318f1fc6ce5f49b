"""$viewdefinition-run over HTTP: a ViewDefinition in a Parameters resource → rows as JSON, NDJSON, CSV or Parquet.

In:      viewResource, or viewReference to a Binary that holds it
         rows of the store (patient, group, _since), of what is sent (resource), of an export of the caller's (source)
         _limit; format, header
Out:     the rows, in the type of their format
Also     at ViewDefinition/$viewdefinition-run and ViewDefinition/$run, where the guide and its older form have it
Source:  SQL on FHIR v2, $viewdefinition-run
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final

from ehr import limits
from ehr.api import bulk
from ehr.api.answer import Answer
from ehr.api.exchange import Exchange, Handler
from ehr.api.moments import since_of
from ehr.api.operation import Binding, table
from ehr.bulk import export_job
from ehr.bulk.table_file import Parquet, cells, csv_of
from ehr.errors import Forbidden, Malformed, NotSupported, TooMuch
from ehr.fhir import codec
from ehr.fhir.operation_arguments import Arguments
from ehr.fhir.references import parse as parse_reference
from ehr.fhir.structure import PRIMITIVES
from ehr.fhir.views import Row, View
from ehr.operations.viewdefinition_run import members, rows_of_files, run_view, stored_view
from ehr.store.unit_of_work import UnitOfWork

_EXPORT: Final = re.compile(r"_job/([A-Za-z0-9\-.]{1,64})", re.ASCII)
_OF_STORE: Final = ("patient", "group", "_since")


async def run_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """Run the view, over what was sent, over files, or over the store."""
    name = arguments.one("format") or arguments.one("_format") or "json"
    if name not in _FORMATS:
        raise NotSupported("the formats are json, ndjson, csv, parquet and fhir", at="format")
    view = await _view(exchange, arguments)
    rows = await _rows(exchange, arguments, view, _limit(arguments))
    media, render = _FORMATS[name]
    header = arguments.one("header") is not False
    return Answer(200, render(view, rows, header), [(b"content-type", media)])


async def _view(exchange: Exchange, arguments: Arguments) -> View:
    given, reference = arguments.one("viewResource"), arguments.one("viewReference")
    if (given is None) == (reference is None):
        raise Malformed("the view is given either as viewResource or as viewReference", at="viewResource")
    if reference is None:
        return View(given)
    return await stored_view(exchange.record, exchange.caller, _id("Binary", reference, "viewReference"))


def _limit(arguments: Arguments) -> int | None:
    limit: int | None = arguments.one("_limit")
    if limit is not None and limit < 1:
        raise Malformed("a number of rows, 1 or more, is wanted", at="_limit")
    if limit is not None and limit > limits.view_rows_max:
        raise TooMuch(f"at most {limits.view_rows_max} rows are answered; export the view instead", at="_limit")
    return limit


async def _rows(exchange: Exchange, arguments: Arguments, view: View, limit: int | None) -> list[Row]:
    source, given = arguments.one("source"), arguments.many("resource")
    if source is not None or given:
        here = "source" if source is not None else "resource"
        if any(arguments.many(name) for name in _OF_STORE) or (source is not None and given):
            raise Malformed("patient, group and _since choose from the store; this brings its own resources", at=here)
        if source is not None:
            return await _rows_of_export(exchange, source, view, limit)
        return [row for one in given for each in _unwrapped(one) for row in view.rows(each)][:limit]
    return await run_view(
        exchange.record,
        exchange.caller,
        view,
        patients=await _patients(exchange, arguments),
        since=since_of(arguments.one("_since")),
        limit=limit,
    )


def _unwrapped(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A Bundle stands for the resources in it."""
    if resource.get("resourceType") != "Bundle":
        yield resource
        return
    for entry in resource.get("entry", []):
        if "resource" in entry:
            yield from _unwrapped(entry["resource"])


async def _rows_of_export(exchange: Exchange, source: str, view: View, limit: int | None) -> list[Row]:
    """The files of a job whose address the client was given when it asked for the export."""
    named = _EXPORT.fullmatch(source.removeprefix(exchange.base + "/"))
    if named is None:
        raise NotSupported("a source is the address of an export that is done", at="source")
    progress = await bulk.own(exchange, named[1])
    if progress.kind != export_job.KIND or progress.state != "done":
        raise NotSupported("a source is the address of an export that is done", at="source")
    if not exchange.caller.grants.allow(view.resource, "r"):
        raise Forbidden(f"the token does not grant 'r' on {view.resource}")
    rows = await asyncio.to_thread(rows_of_files, view, bulk.places(progress, view.resource), limit)

    async def note(uow: UnitOfWork) -> None:
        detail = {"job": progress.id, "resource": view.resource, "rows": len(rows)}
        await uow.audit.execute("viewdefinition-run", detail=detail)

    await exchange.record.run(exchange.caller, note)
    return rows


async def _patients(exchange: Exchange, arguments: Arguments) -> list[str] | None:
    """Those that are named and are members of the Groups that are named; None: all."""
    named = [_id("Patient", one, "patient") for one in arguments.many("patient")]
    groups = [_id("Group", one, "group") for one in arguments.many("group")]
    if not groups:
        return named or None
    found = await members(exchange.record, exchange.caller, groups)
    return [one for one in found if one in named] if named else found


def _id(type_name: str, reference: Mapping[str, Any], at: str) -> str:
    literal = parse_reference(reference.get("reference", ""))
    if literal.kind != "relative" or literal.type != type_name or literal.id is None:
        raise Malformed(f"a reference as in {type_name}/123 is wanted", at=at)
    return literal.id


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


def _fhir(view: View, rows: Sequence[Row], _: bool) -> bytes:
    """Parameters: a row each, with a part for each value."""
    types = {one.name: one.type for one in view.columns}
    parts = ([part for name, value in row.items() for part in _parts(name, types[name], value)] for row in rows)
    made = [{"name": "row", **({"part": part} if part else {})} for part in parts]
    return codec.dumps({"resourceType": "Parameters", **({"parameter": made} if made else {})})


def _parts(name: str, type_name: str | None, value: Any) -> Iterator[dict[str, Any]]:
    for one in value if isinstance(value, list) else [value]:
        if one is not None:
            kind = type_name if type_name in PRIMITIVES else _KINDS.get(type(one), "decimal")
            yield {"name": name, f"value{kind[:1].upper()}{kind[1:]}": one}


_KINDS: Final[Mapping[type, str]] = MappingProxyType({bool: "boolean", int: "integer", str: "string"})
"""Of a value whose column has no type; other numbers are decimals."""

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
        "fhir": (b"application/fhir+json", _fhir),
        "application/fhir+json": (b"application/fhir+json", _fhir),
    }
)

BINDING: Final = Binding("viewdefinition-run", run_of, bytes_max=limits.bundle_bytes_max)


def aliases() -> list[tuple[str, Mapping[str, Handler]]]:
    """The addresses below a type that R4 does not have."""
    handlers = [handlers for _, handlers in table([BINDING])]
    return [(f"/fhir/ViewDefinition/{name}", one) for one in handlers for name in ("$viewdefinition-run", "$run")]
