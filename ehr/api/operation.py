"""Bind OperationDefinitions to handlers: address, methods and parameters of an operation come from its definition.

In:      Bindings: the id of a definition and the handler that gets the Exchange and its Arguments
Out:     a table of addresses; each refuses what the definition does not allow, before its handler is called
Errors:  NotFound for a type or level the operation has not; MethodNotAllowed; what operation_arguments refuses
Source:  FHIR R4 operations.html#executing
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ehr import limits
from ehr.api.answer import Answer, outcome_answer
from ehr.api.exchange import Exchange, Handler, shown, unknown_parameter
from ehr.aside import aside, is_large
from ehr.errors import InvalidResource, MethodNotAllowed, NotFound
from ehr.fhir import codec
from ehr.fhir.operation import Level, Operation, Parameter
from ehr.fhir.operation_arguments import Arguments, arguments_of
from ehr.fhir.operation_definitions import OPERATIONS
from ehr.nearest import did_you_mean

OperationHandler = Callable[[Exchange, Arguments], Awaitable[Answer]]

PLACES: Final[Mapping[Level, str]] = {
    "system": "/fhir",
    "type": "/fhir/{type:fhirtype}",
    "instance": "/fhir/{type:fhirtype}/{id:fhirid}",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """definition: the id of an OperationDefinition.

    beyond     query parameters that the definition does not name: those of our own links ("_page")
    searches   whatever else the query holds are search parameters, which the handler finds in Arguments.beyond
    versions   an instance's earlier versions have the operation too
    bytes_max  of the body
    reads      a body that is none of FHIR → the Parameters it stands for
    judges     what is wrong with the body is the answer, also where it is too wrong to be read
    """

    definition: str
    handler: OperationHandler
    beyond: frozenset[str] = frozenset()
    searches: bool = False
    versions: bool = False
    bytes_max: int = limits.resource_bytes_max
    reads: Callable[[dict[str, Any], Sequence[Parameter]], dict[str, Any]] | None = None
    judges: bool = False

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.definition]


def table(bindings: Sequence[Binding]) -> list[tuple[str, Mapping[str, Handler]]]:
    """Address → methods → handler; operations of one code and level share an address, told apart by its type."""
    places: dict[str, list[Binding]] = {}
    for binding in bindings:
        prefixes = [PLACES[level] for level in PLACES if level in binding.operation.levels]
        prefixes += [f"{PLACES['instance']}/_history/{{version}}"] if binding.versions else []
        for prefix in prefixes:
            places.setdefault(f"{prefix}/${binding.operation.code}", []).append(binding)
    return [(place, dict.fromkeys(_methods(bound), _handler(bound))) for place, bound in places.items()]


def _methods(bound: Sequence[Binding]) -> list[str]:
    return sorted({method for binding in bound for method in binding.operation.methods})


def _handler(bound: Sequence[Binding]) -> Handler:
    async def handle(exchange: Exchange) -> Answer:
        binding = _binding(exchange, bound)
        if exchange.method != "POST" and "GET" not in binding.operation.methods:
            raise MethodNotAllowed("this operation is executed with POST")
        try:
            body = await _body(exchange, binding)
        except InvalidResource as error:
            if binding.judges:
                return outcome_answer(200, error.issues)
            raise
        return await binding.handler(exchange, _arguments(exchange, binding, body))

    return handle


def _binding(exchange: Exchange, bound: Sequence[Binding]) -> Binding:
    if "type" not in exchange.path:
        return bound[0]
    type_name = exchange.type_name
    for binding in bound:
        if binding.operation.serves(type_name):
            return binding
    types = " and ".join(sorted({name for binding in bound for name in binding.operation.types}))
    raise NotFound(f"this operation is one of {types}")


async def _body(exchange: Exchange, binding: Binding) -> dict[str, Any] | None:
    if exchange.method != "POST" or not exchange.has_body:
        return None
    sent = await exchange.body(binding.bytes_max)
    body: dict[str, Any] = await aside(is_large(sent), codec.loads, sent, bytes_max=binding.bytes_max)
    return body if binding.reads is None else binding.reads(body, binding.operation.parameters)


def _arguments(exchange: Exchange, binding: Binding, body: dict[str, Any] | None) -> Arguments:
    found = arguments_of(binding.operation, exchange.query, body)
    if not binding.searches and not exchange.preferences.lenient:
        for name, _ in found.beyond:
            if name not in binding.beyond:
                raise unknown_parameter(name)
    return found


async def no_operation(exchange: Exchange) -> Answer:
    """An operation that nothing is bound to."""
    name = shown(exchange.path["operation"])
    if name == "$graphql":
        raise NotFound("$graphql is not served: docs/adr/0080 says why; _include, _has and _elements ask for the same")
    others = {f"${one.code}" for one in OPERATIONS.values()} - {name}  # which is there, at another level or type
    meant = did_you_mean(name, others)
    raise NotFound(f"there is no operation {name} here; CapabilityStatement.rest lists those there are{meant}")
