"""The routes of /fhir: address and method → handler.

Order:   the busiest first, those of Binary's own for a Binary only; addresses with
         literal parts are told apart by what an id and a type may look like
Source:  FHIR R4 http.html#summary
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import compile_path
from starlette.types import Receive, Scope

from ehr.api import bulk, view_run
from ehr.api import fhir_binary as binary
from ehr.api import fhir_instance as instance
from ehr.api import fhir_patch as patching
from ehr.api import fhir_search as searching
from ehr.api import fhir_type as of_type
from ehr.api.answer import Answer
from ehr.api.bundle_entry import Find
from ehr.api.exchange import Door, Endpoint, Exchange, Handler, known_type
from ehr.api.fhir_operations import BINDINGS
from ehr.api.fhir_system import FacilityBundleDoor, bundle_door, capabilities
from ehr.api.operation import PLACES, no_operation
from ehr.api.operation import table as operations
from ehr.errors import NotFound

Table = Sequence[tuple[str, Mapping[str, Handler]]]


class _Type(Convertor[str]):
    regex = "[A-Z][A-Za-z]{1,63}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Binary(_Type):
    regex = "Binary"


class _Id(_Type):
    regex = r"[A-Za-z0-9\-.]{1,64}"


class _Operation(_Type):
    regex = r"\$[^/]*"


class _Rest(_Type):
    regex = "(?s:.*)"  # line breaks too, which Starlette's own path leaves out


register_url_convertor("fhirtype", _Type())
register_url_convertor("binary", _Binary())
register_url_convertor("fhirid", _Id())
register_url_convertor("operation", _Operation())
register_url_convertor("rest", _Rest())

_T: Final = "/fhir/{type:fhirtype}"
_I: Final = "/fhir/{type:fhirtype}/{id:fhirid}"
_BINARY: Final = "/fhir/Binary"
_C: Final = "/fhir/{compartment:fhirtype}/{id:fhirid}/{type:fhirtype}"
_ALL: Final = "/fhir/{compartment:fhirtype}/{id:fhirid}/*"

_ON_ONE: Final[Mapping[str, Handler]] = {
    "GET": instance.read,
    "PUT": instance.update,
    "PATCH": patching.patch,
    "DELETE": instance.delete,
}
_ON_TYPE: Final[Mapping[str, Handler]] = {
    "GET": searching.search_type,
    "POST": of_type.create,
    "PUT": of_type.update,
    "PATCH": patching.patch_matching,
    "DELETE": of_type.delete,
}


def _unpatched(handlers: Mapping[str, Handler]) -> Mapping[str, Handler]:
    """Content has no elements to change (binary.html)."""
    return {method: handler for method, handler in handlers.items() if method != "PATCH"}


def _any(handler: Handler) -> Mapping[str, Handler]:
    return dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"), handler)


def table(facility_bundle: FacilityBundleDoor | None, find: Find) -> Table:
    """Every protected FHIR address."""
    bundles = bundle_door(facility_bundle, find)
    return [
        (_I, _ON_ONE),
        (_T, _ON_TYPE),
        ("/fhir", {"GET": searching.search_system, "POST": bundles}),
        ("/fhir/", {"GET": searching.search_system, "POST": bundles}),
        (f"{_T}/_search", {"POST": searching.search_type_form}),
        (f"{_C}", {"GET": searching.search_compartment}),
        (f"{_C}/_search", {"POST": searching.search_compartment_form}),
        (_ALL, {"GET": searching.search_compartment}),
        (f"{_ALL}/_search", {"POST": searching.search_compartment_form}),
        (f"{_I}/_history/{{version}}", {"GET": instance.vread}),
        (f"{_I}/_history", {"GET": instance.history}),
        (f"{_T}/_history", {"GET": instance.history}),
        ("/fhir/_history", {"GET": instance.history}),
        ("/fhir/_search", {"POST": searching.search_system_form}),
        *bulk.JOBS,
        *view_run.aliases(),
        *operations(BINDINGS),
        *((f"{place}/{{operation:operation}}", _any(no_operation)) for place in PLACES.values()),
        (f"{_T}/{{id}}", dict.fromkeys(("GET", "PUT", "PATCH", "DELETE"), instance.bad_id)),
    ]


OF_BINARY: Final[Table] = [
    ("/fhir/{type:binary}", {**_unpatched(_ON_TYPE), "POST": binary.create, "PUT": binary.update_matching})
]
CONTENT_OF_BINARY: Final[Table] = [
    ("/fhir/{type:binary}/{id:fhirid}", {**_unpatched(_ON_ONE), "GET": binary.read, "PUT": binary.update}),
    ("/fhir/{type:binary}/{id:fhirid}/_history/{version}", {"GET": binary.vread}),
]
"""What HTTP alone has of Binary: the content itself. In a Bundle a Binary is a resource like any other."""


class Routes:
    """Every address under /fhir: the first address that fits answers; the last one takes whatever is left."""

    def __init__(self, door: Door, facility_bundle: FacilityBundleDoor | None, configuration: Handler) -> None:
        public: Table = [
            ("/fhir/metadata", {"GET": capabilities}),
            ("/fhir/.well-known/smart-configuration", {"GET": configuration}),
            ("/fhir/{rest:rest}", _any(_nothing)),
        ]
        endpoints = [
            *((path, Endpoint(door, path, handlers)) for path, handlers in table(facility_bundle, self.find)),
            *((path, Endpoint(door, path, handlers, files=True)) for path, handlers in bulk.FILES),
            *((path, Endpoint(door, path, handlers, public=True)) for path, handlers in public),
        ]
        self._endpoints = [(compile_path(path)[0], endpoint) for path, endpoint in endpoints]
        of_binary = [
            *((path, Endpoint(door, path, handlers, files=True)) for path, handlers in CONTENT_OF_BINARY),
            *((path, Endpoint(door, path, handlers)) for path, handlers in OF_BINARY),
        ]
        self._of_binary = [(compile_path(path)[0], endpoint) for path, endpoint in of_binary] + self._endpoints

    def answer(self, scope: Scope, receive: Receive) -> Awaitable[Answer]:
        """What the first endpoint answers whose address fits."""
        path = scope["path"]
        for pattern, endpoint in self._of_binary if path.startswith(_BINARY) else self._endpoints:
            found = pattern.fullmatch(path)
            if found is not None:
                scope["path_params"] = found.groupdict()
                return endpoint.answer(scope, receive)
        raise AssertionError("the edge sends addresses under /fhir, and the last pattern takes them all")

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """The handler of an address, for an entry of a Bundle."""
        for pattern, endpoint in self._endpoints:
            found = pattern.fullmatch(path)
            if found is not None:
                return endpoint.handler(method), found.groupdict()
        raise NotFound("there is nothing at this address")


async def _nothing(exchange: Exchange) -> Answer:
    """What no route took: a type that is none, or an address that is no FHIR address."""
    rest = exchange.path["rest"]
    if rest.startswith("/") or rest.endswith("/") or "//" in rest:
        raise NotFound("there is nothing at this address: none ends in a slash or has two of them together")
    first = rest.partition("/")[0]
    if first[:1].isalpha():
        known_type(first)
    raise NotFound("there is nothing at this address")
