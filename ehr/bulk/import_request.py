"""What an $import asks → its files and its order.

In:      arguments as the OperationDefinition `import` has them; as Parameters, or as a JSON object with the same names,
         as the proposal has it
Source:  the parameters that the Bulk Data import proposal and the servers that offer $import agree on: inputFormat,
         inputSource, storageDetail, input (type, url); mode
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ehr import limits
from ehr.bulk.order import Order
from ehr.bulk.sources import Source, check
from ehr.errors import Malformed, NotSupported, TooMuch
from ehr.fhir.operation import Parameter
from ehr.fhir.operation_arguments import Arguments
from ehr.fhir.r4 import TYPE_IDS
from ehr.settings import Settings

FORMATS: Final = ("application/fhir+ndjson", "application/ndjson", "ndjson")
STORAGES: Final = ("https", "http", "file")
MODES: Final = ("InitialLoad", "IncrementalLoad")


def parse(arguments: Arguments, settings: Settings) -> tuple[list[Source], Order]:
    """The files, checked against what may be fetched, and how they are imported."""
    form = arguments.one("inputFormat")
    if form is not None and form not in FORMATS:
        raise NotSupported(f"inputFormat is one of {', '.join(FORMATS)}", at="inputFormat")
    mode = arguments.one("mode")
    if mode is not None and mode not in MODES:
        raise NotSupported(f"mode is one of {', '.join(MODES)}", at="mode")
    storage = arguments.one("storageDetail")
    kind = storage.one("type") if storage is not None else None
    if kind is not None and kind not in STORAGES:
        raise NotSupported(f"storageDetail.type is one of {', '.join(STORAGES)}", at="storageDetail.type")
    if len(arguments.many("input")) > limits.import_files_max:
        raise TooMuch(f"an import names at most {limits.import_files_max} files", at="input")
    sources = [Source(one.one("type"), one.one("url")) for one in arguments.many("input")]
    names: set[str] = set()
    for place, source in enumerate(sources):
        if source.type_name not in TYPE_IDS:
            raise Malformed("type is a resource type of R4", at=f"input[{place}].type")
        check(source, settings, at=f"input[{place}].url")
        if source.name in names:
            raise Malformed("the file is named twice", at=f"input[{place}].url")
        names.add(source.name)
    return sources, Order(references=arguments.one("references") or "report", keep_meta=bool(arguments.one("keepMeta")))


def parameters_of(body: dict[str, Any], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """A JSON object as the Parameters it stands for; what is a resource already as it is."""
    if "resourceType" in body:
        return body
    return {"resourceType": "Parameters", "parameter": list(_parameters(body, parameters))}


def _parameters(body: Mapping[str, Any], parameters: Sequence[Parameter]) -> Iterator[dict[str, Any]]:
    known = {one.name: one for one in parameters}
    for name, given in body.items():
        parameter = known.get(name)
        for value in given if isinstance(given, list) else [given]:
            if parameter is not None and parameter.parts and isinstance(value, dict):
                yield {"name": name, "part": list(_parameters(value, parameter.parts))}
            else:
                kind = (parameter.type if parameter is not None else "") or "string"
                yield {"name": name, f"value{kind[0].upper()}{kind[1:]}": value}
