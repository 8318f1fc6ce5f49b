"""What search serves: which parameters of a type, with which modifiers. The CapabilityStatement says the same.

SUPPORTED   type → R4's own parameters that are served
Refused     _query: a named query is an OperationDefinition of kind query, and none is defined here; R4 has none that
            a server must have
"""

from collections.abc import Iterator, Mapping
from typing import Final

from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.part_of import has_hierarchy
from ehr.search.terms import Chain, Condition, Criterion, Has, Missing, PerType, SearchRequest

MODIFIERS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"exact", "contains"}),
    "token": frozenset({"not", "text", "of-type", "in", "not-in", "above", "below"}),
    "uri": frozenset({"below", "above"}),
    "reference": frozenset({"identifier"}),
    "date": frozenset(),
    "number": frozenset(),
    "quantity": frozenset(),
    "composite": frozenset(),
    "special": frozenset(),
}
"""Modifiers of each kind, beside :missing; references also take :[type], and :above and :below where types are part of
one another (ehr.search.part_of)."""
_CODED: Final = frozenset({"CodeableConcept", "Coding", "code"})
_NAMED: Final = frozenset({"CodeableConcept", "Coding", "Identifier"})

NO_BELOW: Final = frozenset({"_source"})
"""Indexed by hash only: on every resource, and another text on nearly every one."""

NO_ORDER: Final = frozenset({"Narrative", "Phonetic", "Position"})
READ: Final = "_content"
"""Answered by reading resources (ehr.search.read), so in no chain, filter or condition."""
OF_EVERY_TYPE: Final = ("_filter", "_has", "_list", "_type")
"""Asked of any type, beside the parameters in the table."""
SORTED_KINDS: Final = frozenset({"string", "date", "number", "quantity", "token", "reference", "uri"})


def served(parameter: Parameter) -> bool:
    """Whether a search by this parameter can be answered from the index."""
    if parameter.kind == "composite":
        return composite_served(parameter)
    return bool(parameter.paths)


def composite_served(parameter: Parameter) -> bool:
    known = parameters.of(parameter.type_name)
    if parameter.union:
        return all(composite_served(known[code]) for code in parameter.union)
    return parameter.is_one_element or parameter.is_paired or parameter.is_spanned


def modifiers(parameter: Parameter) -> frozenset[str]:
    """Modifiers of one parameter."""
    found, types = MODIFIERS[parameter.kind], {path.type for path in parameter.paths}
    if parameter.kind == "token":
        found -= frozenset() if types & _CODED else {"in", "not-in", "above", "below"}
        found -= frozenset() if types & _NAMED else {"text"}
        found -= frozenset() if "Identifier" in types else {"of-type"}
    elif parameter.kind == "reference":
        found |= {"above", "below"} if has_hierarchy(parameter) else frozenset()
        found |= {"below"} if "canonical" in types else frozenset()
    elif types & {"Narrative", "Phonetic"} or parameter.code == READ:
        found = frozenset()
    return found - {"below"} if parameter.code in NO_BELOW else found


def sortable(parameter: Parameter) -> bool:
    """What has one value to order by; tokens, references and uris are read from the resources (ehr.search.read)."""
    if parameter.code in {"_id", "_lastUpdated"}:
        return True
    return bool(parameter.paths) and parameter.kind in SORTED_KINDS and parameter.paths[0].type not in NO_ORDER


def included(parameter: Parameter, *, reverse: bool) -> bool:
    """Canonical urls are followed to what they name, not back: the index cannot tell which versions of it they name."""
    followed = {"Reference"} if reverse else {"Reference", "canonical"}
    return parameter.kind == "reference" and any(path.type in followed for path in parameter.paths)


def read_to_sort(parameter: Parameter) -> bool:
    """What the index holds as hashes alone, so that an order by it is read from the resources (ehr.search.read)."""
    return parameter.kind in {"token", "reference", "uri"} and parameter.code != "_id"


def supported(type_name: str) -> tuple[Parameter, ...]:
    """R4's own parameters of a type that are served; of COMMON, those that every type has."""
    known = parameters.of(type_name).values()
    found = [parameter for parameter in known if served(parameter) or parameter.code == READ]
    return tuple(sorted(found, key=lambda parameter: parameter.code))


def added_of(request: SearchRequest) -> set[int]:
    """Ids of the parameters a request asks by, sorts by or includes by that this installation has added."""
    asked = [one for condition in request.conditions for one in _asked(condition)]
    asked += [key.parameter for key in request.sort]
    asked += [one.parameter for one in request.includes if one.parameter is not None]
    return {parameter.id for parameter in asked if parameter.added}


def _asked(condition: Condition) -> Iterator[Parameter]:
    match condition:
        case Criterion() | Missing():
            yield condition.parameter
        case Chain():
            yield condition.parameter
            for _, inner in condition.links:
                yield from _asked(inner)
        case Has():
            yield condition.parameter
            yield from _asked(condition.inner)
        case PerType(conditions):
            for _, one in conditions:
                yield from _asked(one)


class _Supported(Mapping[str, tuple[Parameter, ...]]):
    """Read when first asked: 1,700 parameters need not be built to start a process."""

    _table: dict[str, tuple[Parameter, ...]] | None = None

    def _known(self) -> dict[str, tuple[Parameter, ...]]:
        if self._table is None:
            self._table = {type_name: supported(type_name) for type_name in TYPE_IDS}
        return self._table

    def __getitem__(self, type_name: str) -> tuple[Parameter, ...]:
        return self._known()[type_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(TYPE_IDS)


SUPPORTED: Final[Mapping[str, tuple[Parameter, ...]]] = _Supported()
"""Type → its served parameters, the common ones included."""
