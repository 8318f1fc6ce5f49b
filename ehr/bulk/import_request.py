"""What an $import asks → its files and its order.

In:      arguments as the OperationDefinition `import` has them
Source:  the parameters that the Bulk Data import proposal and the servers that offer $import agree on: inputFormat,
         inputSource, storageDetail, input (type, url); mode
"""

from typing import Final

from ehr import limits
from ehr.bulk.order import Order
from ehr.bulk.sources import Source, check
from ehr.errors import Malformed, NotSupported, TooMuch
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
    for place, source in enumerate(sources):
        if source.type_name not in TYPE_IDS:
            raise Malformed("type is a resource type of R4", at=f"input[{place}].type")
        check(source, settings, at=f"input[{place}].url")
    return sources, Order(references=arguments.one("references") or "report", keep_meta=bool(arguments.one("keepMeta")))
