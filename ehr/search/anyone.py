"""A search of one patient's resources → the same search of anyone's, so that what is worked out for one serves all.

In:      a query with one parameter that names a Patient by its id alone and so decides the shard, as patient=23 and
         subject=Patient/23 do; whatever else it asks is part of what it is remembered by
Out:     the query without the id; the search of a patient made of what was understood, planned and lowered for ANYONE
Keeps:   the id is all that differs. What may mean more than an id (several, a url, an escape, a modifier, an id alone
         where the parameter points to several types) is not taken out
How:     ANYONE is no id. Where its hashes are among the values of a statement, those of the patient are put in
Why:     a ward asks the same of one patient after another; to work it out is a quarter of what a page costs
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from ehr.fhir.compartments import PATIENT_TYPES, shard_params
from ehr.fhir.parameters import Parameter
from ehr.ids import FHIR_ID
from ehr.index.hashing import TARGET_MASK, Hasher
from ehr.search.terms import Condition, Criterion, ReferenceValue, SearchRequest

PATIENT: Final = "Patient"
ANYONE: Final = "*"
_SAMPLE: Final = "0"
"""An id, so that the rest of a query can be understood with it."""

Query = tuple[tuple[str, str], ...]


def named(type_name: str | None, query: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
    """Which parameter names the one patient, and the id."""
    codes = shard_params(type_name) if type_name in PATIENT_TYPES else ()
    places = [at for at, (name, _) in enumerate(query) if name in codes]
    if len(places) != 1:
        return None
    id = query[places[0]][1].removeprefix(f"{PATIENT}/")
    return (places[0], id) if FHIR_ID.fullmatch(id) else None


def without(query: Sequence[tuple[str, str]], at: int, id: str) -> Query:
    """The query as it is remembered."""
    name, value = query[at]
    return (*query[:at], (name, value.removesuffix(id)), *query[at + 1 :])


def with_sample(query: Query, at: int) -> Query:
    name, value = query[at]
    return (*query[:at], (name, value + _SAMPLE), *query[at + 1 :])


@dataclass(frozen=True, slots=True)
class Anyone:
    """A search of ANYONE's resources. condition, pair: where the request names the patient; parameter: by what."""

    request: SearchRequest
    condition: int
    pair: int
    parameter: Parameter

    def of(self, id: str) -> SearchRequest:
        """The same search of one patient."""
        request = _named(self.request, self.condition, self.pair, id)
        request.anyone, request.patient = self, id
        return request


def anyone(request: SearchRequest, pair: tuple[str, str]) -> Anyone | None:
    """A search of the sample patient, whom this pair names, as one of anyone; None where the pair means more."""
    asked = ReferenceValue(((PATIENT, _SAMPLE),))
    places = [at for at, one in enumerate(request.conditions) if isinstance(one, Criterion) and one.values == (asked,)]
    if len(places) != 1 or request.served.count(pair) != 1:
        return None
    named, at = request.conditions[places[0]], request.served.index(pair)
    assert isinstance(named, Criterion), "it was looked for"
    return Anyone(_named(request, places[0], at, ANYONE), places[0], at, named.parameter)


def _named(request: SearchRequest, condition: int, pair: int, id: str) -> SearchRequest:
    """The request with another patient's id."""
    conditions: list[Condition] = request.conditions.copy()
    named = conditions[condition]
    assert isinstance(named, Criterion), "it names the patient"
    conditions[condition] = Criterion(
        named.type_name, named.parameter, named.modifier, (ReferenceValue(((PATIENT, id),)),)
    )
    served = request.served.copy()
    name, value = served[pair]
    served[pair] = name, f"{PATIENT}/{id}" if value.startswith(f"{PATIENT}/") else id
    return replace(request, conditions=conditions, served=served, plans=[])


# -- values of a statement ---------------------------------------------------------------------------------------

Blank = tuple[int, int | None, Parameter | None]
"""The place of a value, the place in it where it is a list, and the parameter whose reference it is; None: a shard."""


@dataclass(slots=True)
class First:
    """The statement of a first page with its values. asker: the place of whose rows they are, where several ask
    together; blanks: which values are ANYONE's."""

    text: str
    values: list[Any]
    asker: int | None
    blanks: Sequence[Blank] = ()

    def of(self, id: str, hasher: Hasher) -> list[Any]:
        """The values for one patient."""
        shard, values = hasher.shard(PATIENT, id), self.values.copy()
        for at, within, part in self.blanks:
            found = shard if part is None else hasher.reference_to(shard & TARGET_MASK, part.id, part.slot)
            if within is None:
                values[at] = found
            else:
                values[at] = [*values[at][:within], found, *values[at][within + 1 :]]
        return values


def blanks(values: Sequence[Any], parts: Iterable[Parameter], hasher: Hasher) -> list[Blank]:
    """ANYONE's hashes among values; parts: the parameters that store who is named."""
    ours: dict[Any, Parameter | None] = {hasher.shard(PATIENT, ANYONE): None}
    ours |= {hasher.reference(part.id, part.slot, PATIENT, ANYONE): part for part in parts}
    found: list[Blank] = []
    for at, value in enumerate(values):
        if isinstance(value, list):
            found += [(at, within, ours[one]) for within, one in enumerate(value) if one in ours]
        elif value in ours:
            found.append((at, None, ours[value]))
    assert found, "who is named is among the values"
    return found
