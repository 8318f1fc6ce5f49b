"""Of whatever the gate finds no fault of structure in, a profile can be asked: issues come of it, each with a place."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ehr.fhir.profiles.check import check
from ehr.fhir.profiles.library import Library
from ehr.fhir.validate import validate
from tests.unit.profile_definitions import observation
from tests.unit.test_fhir_profiles_slicing import DIASTOLIC, SYSTOLIC, component, pressure
from tests.unit.test_fhir_profiles_vietnam import ETHNIC_GROUP, PATIENT, citizen

DEFINITIONS = {one["url"]: one for one in (PATIENT, ETHNIC_GROUP, pressure("closed", ordered=True))}
RESOURCES: list[tuple[dict[str, Any], str]] = [
    (citizen(), PATIENT["url"]),
    (observation(component=[component(SYSTOLIC), component(DIASTOLIC)]), pressure()["url"]),
]
VALUES = [1, "x", True, {}, [], None, {"coding": [{"code": 1}]}, [{"url": "http://example.org/x", "valueCode": "a"}]]


def nodes(tree: Any) -> list[dict[str, Any]]:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [*([tree] if isinstance(tree, dict) else []), *(one for below in inner for one in nodes(below))]


@given(
    st.sampled_from(RESOURCES), st.lists(st.tuples(st.integers(0), st.integers(0), st.sampled_from(VALUES)), max_size=3)
)
def test_no_resource_ends_a_check(about: tuple[dict[str, Any], str], changes: list[tuple[int, int, Any]]) -> None:
    tree, profile = copy.deepcopy(about[0]), about[1]
    for place, member, value in changes:
        node = (found := nodes(tree))[place % len(found)]
        names = [*node, "extension", "_value", "modifierExtension"]
        node[names[member % len(names)]] = copy.deepcopy(value)
    if any(issue.code == "structure" for issue in validate(tree)):
        return
    library = Library()
    issues = []
    for _ in range(8):
        issues = check(tree, [profile], library)
        wanted = library.wanted()
        for canonical in wanted.profiles:
            library.tell_profile(canonical, DEFINITIONS.get(canonical))
        for question in wanted.codes:
            library.tell_code(question, None)
        if not wanted:
            break
    assert all(issue.at and issue.at.startswith(str(tree["resourceType"])) for issue in issues)
