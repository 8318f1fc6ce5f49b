"""The scope grammar grants what it says and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.access.policy import Action
from ehr.access.scopes import ACTIONS, Scope, grants, intersect, parse, parse_scope, written
from ehr.fhir.r4 import TYPE_IDS

CONTEXTS = st.sampled_from(["patient", "user", "system"])
TYPES = st.sampled_from(["*", *sorted(TYPE_IDS)])
RIGHTS = st.sets(st.sampled_from(ACTIONS), min_size=1)
SCOPES = st.builds(Scope, CONTEXTS, TYPES, RIGHTS.map(frozenset))


@given(SCOPES)
def test_every_scope_of_the_grammar_is_read_as_it_is_written(scope: Scope) -> None:
    assert parse_scope(str(scope)) == scope


@given(st.text(max_size=40))
def test_any_text_is_no_right_or_its_own_canonical_form(text: str) -> None:
    scope = parse_scope(text)
    if scope is not None:
        assert text in (str(scope), *(f"{scope.context}/{scope.type_name}.{v1}" for v1 in ("read", "write", "*")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "patient/*.",
        "patient/*.sr",
        "patient/*.rsx",
        "patient/*.rr",
        "patient/Observation.rs?category=laboratory",
        "patient/Observation.rs&",
        "patient/Nonsense.rs",
        "patient/observation.rs",
        "Patient/*.rs",
        "patient/**.rs",
        "patient/*.rs ",
        "patient/*.rs\n",
        "patient/*.rѕ",  # Cyrillic s
        "раtient/*.rs",  # Cyrillic p and a
        "patient／*.rs",  # full-width slash
        "system/*.Read",
        "launch/patient",
        "openid",
        "system*.rs",
    ],
)
def test_what_the_grammar_does_not_accept_gives_no_right(text: str) -> None:
    assert parse_scope(text) is None


@pytest.mark.parametrize(("version_1", "letters"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_version_1_endings_mean_their_version_2_letters(version_1: str, letters: str) -> None:
    scope = parse_scope(f"system/Patient.{version_1}")
    assert scope is not None
    assert str(scope) == f"system/Patient.{letters}"


@given(st.lists(SCOPES, max_size=6), st.lists(SCOPES, max_size=6))
def test_an_intersection_allows_exactly_what_both_sides_allow(asked: list[Scope], registered: list[Scope]) -> None:
    granted = intersect(asked, registered)
    for context in ("patient", "user", "system"):
        left, right, both = (grants(side, context) for side in (asked, registered, granted))
        for type_name in ("Patient", "Observation", "Organization"):
            for action in ACTIONS:
                expected = left.allow(type_name, action) and right.allow(type_name, action)
                assert both.allow(type_name, action) == expected


@given(st.lists(SCOPES, max_size=5))
def test_a_written_list_reads_back(scopes: list[Scope]) -> None:
    assert parse(written(scopes)) == scopes


def test_a_scope_of_one_context_gives_another_nothing() -> None:
    scopes = parse("patient/*.rs user/*.rs")
    action: Action
    for action in ACTIONS:
        assert not grants(scopes, "system").allow("Patient", action)
