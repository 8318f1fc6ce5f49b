"""Parameters of $export → ExportRequest, or refusals that name the parameter. Pure.

In:      the level (system, all patients, one Group); parameters in their order, References as their text
Out:     ExportRequest; what handling=lenient lets pass, as warnings
Errors:  NotSupported, Malformed, Invalid, Forbidden; each at its parameter
Source:  Bulk Data Access IG 2.0.0, kick-off request with includeAssociatedData; _until and organizeOutputBy of 3.0.0
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from ehr import limits
from ehr.access.policy import Grants
from ehr.errors import EhrError, Forbidden, Issue, Malformed, NotSupported, TooMuch
from ehr.fhir.compartments import PATIENT_TYPES
from ehr.fhir.parameters import R4, Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.subset import subset_of
from ehr.search.parse import parse as parse_search

Level = Literal["system", "patient", "group"]
Format = Literal["ndjson", "parquet", "csv"]
Pairs = Sequence[tuple[str, str]]

NO_RESOURCE: Final = frozenset({"Parameters"})
"""Types that are only ever content of an operation."""

LATEST: Final = "LatestProvenanceResources"
RELEVANT: Final = "RelevantProvenanceResources"
REFERENCED: Final = "_ReferencedResources"
"""Our own: what lies in no patient's record and is referred to: practitioners, organizations, places."""
ASSOCIATED: Final = (LATEST, RELEVANT, REFERENCED)
PROVENANCE: Final = "Provenance"

_FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "application/fhir+ndjson": "ndjson",
        "application/ndjson": "ndjson",
        "ndjson": "ndjson",
        "application/vnd.apache.parquet": "parquet",
        "parquet": "parquet",
    }
)
_BETWEEN_QUERIES: Final = re.compile(r",(?=[A-Z][A-Za-z]{1,63}\?)", re.ASCII)
_PATIENT: Final = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})", re.ASCII)
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_NO_FILTER: Final = frozenset(
    "_sort _count _include _revinclude _summary _elements _total _contained _cursor _type _format _pretty".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class TypeFilter:
    """Of a type only what matches a search; several of one type are alternatives."""

    type_name: str
    query: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is to be exported.

    patients  ids of the only patients wanted; None: no such list
    associated  what is exported beside (ehr.bulk.export_associated); where that is Provenance, types has none
    view      a ViewDefinition: its rows are exported, not the resources
    """

    level: Level
    types: tuple[str, ...]
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    filters: tuple[TypeFilter, ...] = ()
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] | None = None
    organized_by: Literal["Patient"] | None = None
    format: Format = "ndjson"
    view: dict[str, Any] | None = None
    associated: tuple[str, ...] = ()

    def rendered(self, format_: Format, view: dict[str, Any] | None) -> "ExportRequest":
        """The same content in another format, or as the rows of a view."""
        return replace(self, format=format_, view=view)


@dataclass(slots=True)
class _Reading:
    """The request while its parameters are read."""

    level: Level
    grants: Grants
    lenient: bool
    known: Parameters
    types: list[str] = field(default_factory=list)
    since: datetime | None = None
    until: datetime | None = None
    filters: list[TypeFilter] = field(default_factory=list)
    elements: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    organized_by: Literal["Patient"] | None = None
    format: Format = "ndjson"
    associated: list[str] = field(default_factory=list)
    ignored: list[Issue] = field(default_factory=list)


def parse(
    level: Level,
    given: Pairs,
    grants: Grants,
    *,
    group: str | None = None,
    lenient: bool = False,
    known: Parameters = R4,
) -> tuple[ExportRequest, list[Issue]]:
    """given: what the definition of the operation lets in, and with lenient handling anything else. known: the search
    parameters there are."""
    reading = _Reading(level, grants, lenient, known)
    for name, value in sorted(given, key=lambda pair: pair[0] != "_type"):  # the types decide what others may say
        try:
            _READERS.get(name, _unknown)(reading, name, value)
        except (NotSupported, Malformed) as error:
            if not lenient:
                raise
            reading.ignored += [Issue(one.code, f"ignored: {one.text}", name, "warning") for one in error.issues]
    types = _types(reading)
    for one in reading.filters:
        if one.type_name not in types:
            raise NotSupported(f"_typeFilter names {one.type_name}, which is not exported", at="_typeFilter")
    if reading.organized_by and reading.associated:
        raise NotSupported("files organized by patient hold what is the patient's own", at="includeAssociatedData")
    if reading.organized_by and reading.format != "ndjson":
        raise NotSupported("files organized by patient are application/fhir+ndjson", at="organizeOutputBy")
    made = ExportRequest(
        level,
        types,
        group,
        reading.since,
        reading.until,
        tuple(reading.filters),
        tuple(reading.elements),
        tuple(dict.fromkeys(reading.patients)) if reading.patients else None,
        reading.organized_by,
        reading.format,
        associated=tuple(dict.fromkeys(reading.associated)),
    )
    return made, reading.ignored


def _types(reading: _Reading) -> tuple[str, ...]:
    """What is exported by itself: Provenance that goes with other resources does not."""
    found = _asked_types(reading)
    if not {LATEST, RELEVANT}.intersection(reading.associated):
        return found
    others = tuple(name for name in found if name != PROVENANCE)
    if not others:
        raise NotSupported("Provenance goes with resources of other types; name them too", at="includeAssociatedData")
    return others


def _asked_types(reading: _Reading) -> tuple[str, ...]:
    """What is named, else everything of the level that the token grants."""
    level = sorted(TYPE_IDS.keys() - NO_RESOURCE if reading.level == "system" else PATIENT_TYPES)
    if reading.types:
        for name in reading.types:
            if not reading.grants.allow(name, "r"):
                raise Forbidden(f"the token does not grant 'r' on {name}", at="_type")
        return tuple(dict.fromkeys(reading.types))
    granted = tuple(name for name in level if reading.grants.allow(name, "r"))
    if not granted:
        raise Forbidden("the token grants no type that could be exported")
    return granted


def _unknown(_: _Reading, name: str, value: str) -> None:  # noqa: ARG001 - as the others
    plain = name.replace("-", "").replace("_", "")
    shown = name if len(name) <= 64 and plain.isalnum() and plain.isascii() else "of this name"
    raise NotSupported(f"the parameter {shown} is not supported here", at=shown)


def _listed(value: str, name: str) -> list[str]:
    found = [one.strip() for one in value.split(",") if one.strip()]
    if not found:
        raise Malformed("the parameter has no value", at=name)
    if len(found) > limits.search_values_max:
        raise TooMuch(f"more than {limits.search_values_max} values", at=name)
    return found


def _output_format(reading: _Reading, name: str, value: str) -> None:
    known = _FORMATS.get(value.replace(" ", "+").lower())
    if known is None:
        raise NotSupported("files are application/fhir+ndjson or application/vnd.apache.parquet", at=name)
    reading.format = known


def _type(reading: _Reading, name: str, value: str) -> None:
    for one in _listed(value, name):
        if one not in TYPE_IDS or one in NO_RESOURCE:
            raise NotSupported("there is no such resource type", at=name)
        if reading.level != "system" and one not in PATIENT_TYPES:
            raise NotSupported(f"{one} is not in the Patient compartment", at=name)
        reading.types.append(one)


def _moment(value: str, name: str) -> datetime:
    text = value.replace(" ", "+")
    try:
        if _INSTANT.fullmatch(text):
            found = datetime.fromisoformat(text)
            found.astimezone(UTC)  # the database counts in it: a moment near year 1 or 9999 may have none
            return found
    except (ValueError, OverflowError):
        pass
    raise Malformed("an instant is wanted, as in 2026-11-23T09:30:00+07:00", at=name)


def _since(reading: _Reading, name: str, value: str) -> None:
    _once(reading.since, name)
    reading.since = _moment(value, name)


def _until(reading: _Reading, name: str, value: str) -> None:
    _once(reading.until, name)
    reading.until = _moment(value, name)


def _once(known: object, name: str) -> None:
    if known is not None:
        raise Malformed(f"{name} may be given once", at=name)


def _elements(reading: _Reading, name: str, value: str) -> None:
    for one in _listed(value, name):
        owner, _, element = one.rpartition(".")
        if owner:
            if owner not in TYPE_IDS:
                raise NotSupported("an element is named as Type.element or element", at=name)
            subset_of((owner,), None, [element])
        elif not element.isalnum():
            raise NotSupported("only root elements may be named", at=name)
        reading.elements.append(one)


def _patient(reading: _Reading, name: str, value: str) -> None:
    found = _PATIENT.fullmatch(value)
    if found is None:
        raise Malformed("a reference as in Patient/123 is wanted", at=name)
    if len(reading.patients) >= limits.export_patients_max:
        raise TooMuch(f"more than {limits.export_patients_max} patients; use a Group", at=name)
    reading.patients.append(found[1])


def _type_filter(reading: _Reading, name: str, value: str) -> None:
    for one in _BETWEEN_QUERIES.split(value):
        type_name, mark, query = one.partition("?")
        if not mark or type_name not in TYPE_IDS:
            raise Malformed("a query as in Observation?status=final is wanted", at=name)
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=limits.search_parameters_max * 4)
        for key, _ in pairs:
            if key.partition(":")[0] in _NO_FILTER:
                raise NotSupported("a filter has search criteria only", at=name)
        _checked(reading, name, type_name, pairs)
        reading.filters.append(TypeFilter(type_name, tuple(pairs)))


def _checked(reading: _Reading, name: str, type_name: str, pairs: Pairs) -> None:
    """Refuse now what the search would refuse later, in another process."""
    try:
        parse_search(type_name, pairs, known=reading.known)
    except EhrError as error:
        raise NotSupported(f"{type_name}: {error}", at=name) from error


def _organize(reading: _Reading, name: str, value: str) -> None:
    _once(reading.organized_by, name)
    if value != "Patient":
        raise NotSupported("files can be organized by Patient", at=name)
    reading.organized_by = "Patient"


def _associated(reading: _Reading, name: str, value: str) -> None:
    for one in _listed(value, name):
        if one not in ASSOCIATED:
            raise NotSupported(f"the values are {', '.join(ASSOCIATED)}", at=name)
        if one != REFERENCED and not reading.grants.allow(PROVENANCE, "r"):
            raise Forbidden("the token does not grant 'r' on Provenance", at=name)
        reading.associated.append(one)


_READERS: Final[Mapping[str, Callable[[_Reading, str, str], None]]] = MappingProxyType(
    {
        "_outputFormat": _output_format,
        "_type": _type,
        "_since": _since,
        "_until": _until,
        "_typeFilter": _type_filter,
        "_elements": _elements,
        "patient": _patient,
        "organizeOutputBy": _organize,
        "includeAssociatedData": _associated,
    }
)


def filtered_types(filters: Iterable[TypeFilter]) -> tuple[str, ...]:
    """The types that have filters."""
    return tuple(dict.fromkeys(one.type_name for one in filters))
