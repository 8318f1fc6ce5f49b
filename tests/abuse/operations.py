"""Operations with the parameters of their definitions, of the right type and of others, in queries and in bodies."""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from ehr.fhir.operation import Parameter
from ehr.fhir.operation_definitions import OPERATIONS as DEFINED
from tests.abuse.bodies import changed
from tests.abuse.request import Asked, address, posted
from tests.abuse.values import ANY, IDS, JSON


@st.composite
def named(draw: DrawFn, parameter: Parameter) -> dict[str, Any]:
    """One parameter as a Parameters resource says it."""
    if parameter.parts:
        return {"name": parameter.name, "part": draw(st.lists(st.one_of(*map(named, parameter.parts)), max_size=3))}
    if draw(st.integers(0, 4)) == 0:
        return {"name": parameter.name, "resource": draw(changed())}
    kind = draw(st.sampled_from([parameter.type or "string", "string", "Reference", "date"]))
    return {"name": parameter.name, f"value{kind[:1].upper()}{kind[1:]}": draw(st.one_of(ANY, JSON))}


@st.composite
def operated(draw: DrawFn) -> Asked:
    """An operation at one of its levels."""
    operation = DEFINED[draw(st.sampled_from(sorted(DEFINED)))]
    type_name = draw(st.sampled_from(sorted(operation.types) or ["Patient"])).replace("Resource", "Patient")
    level = draw(st.sampled_from(["system", "type", "instance"]))
    place = {"system": [], "type": [type_name], "instance": [type_name, draw(IDS)]}[level]
    path = address("/fhir", *place, f"${operation.code}")
    known = list(operation.parameters)
    if draw(st.booleans()):
        some = draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        return Asked("GET", path, [(one.name, draw(ANY)) for one in some])
    parts = draw(st.lists(st.one_of(*map(named, known)), max_size=3)) if known else []
    return posted(path, {"resourceType": "Parameters", "parameter": parts})


OPERATIONS: Final = operated()
