"""The CapabilityStatement: what this server does, read from what is registered, so that it cannot claim more.

In:      the types, the search parameters that search serves, the operations with routes, the FHIR base
Out:     tree of a CapabilityStatement of kind instance; normative: only of what is normative in R4
Source:  FHIR R4 capabilitystatement.html, http.html#capabilities
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from ehr.api.capability_includes import search_includes, search_revincludes
from ehr.api.exchange import NO_ENDPOINT
from ehr.api.fhir_operations import BINDINGS
from ehr.api.negotiation import PATCH_FORMATS
from ehr.fhir.operation import Operation
from ehr.fhir.parameters import COMMON, Parameter, Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.served import OF_EVERY_TYPE, SUPPORTED, supported

DATE: Final = "2026-11-30"
IMPLEMENTATION: Final = "A city's health record"
_NORMATIVE: Final = frozenset(
    """Binary Bundle CapabilityStatement CodeSystem Observation OperationDefinition OperationOutcome Parameters Patient
    StructureDefinition ValueSet""".split()  # noqa: SIM905
)
"""Resource types whose StructureDefinition has the standards status normative in R4."""

_INTERACTIONS: Final = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
_DOCUMENTED: Final = {
    "Binary": "Read without a FHIR type in Accept, a Binary is its content, as an attachment; application/fhir+json, "
    "application/fhir+xml or _format ask for the resource. A create or update takes content of any type, with "
    "X-Security-Context as securityContext. A Binary whose securityContext is a Patient belongs to that Patient; a "
    "citizen sees no other.",
}
_BOUND: Final = [binding.operation for binding in BINDINGS]
_HEADERS: Final = (
    "Idempotency-Key: a create, update, patch, delete or transaction sent again with the same key and content by the "
    "same client gets the first answer. X-Provenance: a Provenance without target, stored with the create, update or "
    "patch of one resource. Person/[id]/$everything, Person/[id]/$summary and Person/[id]/[type] span all source "
    "Patients that the Person links. Prefer: return=minimal, representation or OperationOutcome on every write; "
    "handling=lenient lets unknown parameters be. _contained and _containedType are served. An update with a part of "
    "a resource (SUBSETTED) is refused. A body may be packed with gzip."
)


_COMPARTMENT: Final = "http://hl7.org/fhir/CompartmentDefinition/"
_HOSTED: Final = ("patient", "encounter", "practitioner", "relatedPerson", "device")
"""R4's own compartments; that of a Person is ours and has no definition."""


def capability_statement(
    base: str, known: Parameters, *, normative: bool = False, cors: bool = False
) -> dict[str, Any]:
    """The statement of the server at this base."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": DATE,
        "kind": "instance",
        "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        "software": software(),
        "implementation": {"description": IMPLEMENTATION, "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "patchFormat": list(PATCH_FORMATS),
        "rest": [
            {
                "mode": "server",
                "documentation": _HEADERS,
                "security": _security(base, cors=cors),
                "resource": [_with_added(one, known) for one in _resources(normative=normative)],
                "searchParam": _of_every_type(),
                "interaction": [{"code": code} for code in ("transaction", "batch", "history-system", "search-system")],
                **({} if normative else {"compartment": [_COMPARTMENT + name for name in _HOSTED]}),
                **_system_operations(normative=normative),
            }
        ],
    }


def software() -> dict[str, str]:
    """With the version of the installed distribution; a checkout that is run without being installed has none."""
    try:
        installed = version("city-ehr")
    except PackageNotFoundError:
        installed = "not installed"
    return {"name": "city-ehr", "version": installed}


def _security(base: str, *, cors: bool) -> dict[str, Any]:
    service = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
    return {
        "extension": [
            {
                "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                "extension": [{"url": "token", "valueUri": f"{base.removesuffix('/fhir')}/oauth/token"}],
            }
        ],
        "cors": cors,
        "service": [{"coding": [service]}],
    }


@cache
def _resources(*, normative: bool) -> list[dict[str, Any]]:
    shown = _NORMATIVE if normative else TYPE_IDS
    return [_resource(name, normative=normative) for name in TYPE_IDS if name not in NO_ENDPOINT and name in shown]


def _with_added(resource: dict[str, Any], known: Parameters) -> dict[str, Any]:
    """The search parameters that this installation has added, each with the url that defines it."""
    added = [_parameter(one) for one in known.added_to(resource["type"]).values()]
    return {**resource, "searchParam": [*resource["searchParam"], *added]} if added else resource


def _parameter(one: Parameter) -> dict[str, str]:
    """With the url of the SearchParameter, so that a client can be sure what it means."""
    return {"name": one.code, "definition": one.url, "type": one.kind}


def _of_every_type() -> list[dict[str, str]]:
    """What a search of the whole system takes, and of any type."""
    special = [{"name": code, "type": "special"} for code in OF_EVERY_TYPE]
    return [*(_parameter(one) for one in supported(COMMON)), *special]


def _system_operations(*, normative: bool) -> dict[str, Any]:
    listed = [_operation(one) for one in _bound(normative=normative) if "system" in one.levels]
    return {"operation": listed} if listed else {}


def _bound(*, normative: bool) -> list[Operation]:
    return [one for one in _BOUND if one.normative or not normative]


def _operation(operation: Operation) -> dict[str, Any]:
    return {"name": operation.code, "definition": operation.url}


def _resource(name: str, *, normative: bool) -> dict[str, Any]:
    return {
        "type": name,
        **({"documentation": _DOCUMENTED[name]} if name in _DOCUMENTED else {}),
        "interaction": [{"code": code} for code in _INTERACTIONS if (code, name) != ("patch", "Binary")],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "local"],
        "searchInclude": search_includes(name),
        "searchRevInclude": search_revincludes(name),
        "searchParam": [_parameter(one) for one in SUPPORTED[name]],
        "operation": [_operation(one) for one in _bound(normative=normative) if one.serves(name)],
    }
