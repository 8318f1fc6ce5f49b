"""Every search parameter of R4 is served, but for those named here; the CapabilityStatement says the same."""

from typing import Any

import pytest

from ehr.api.capability import capability_statement
from ehr.errors import NotSupported
from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.parse import parse
from ehr.search.served import SUPPORTED, supported

UNSERVED = {
    ("Resource", "_query"): "named queries are an operation's, and we have none",
}


def test_all_parameters_but_the_named_are_served() -> None:
    every = {
        (name, one.code)
        for name in (parameters.COMMON, *TYPE_IDS)
        for one in parameters.of(name).values()
        if one.type_name == name
    }
    found = {(one.type_name, one.code) for name in TYPE_IDS for one in SUPPORTED[name]}
    assert len(every) == 1_709
    assert every - found == set(UNSERVED)


@pytest.mark.parametrize(("type_name", "code"), UNSERVED)
def test_the_others_are_refused_by_name(type_name: str, code: str) -> None:
    with pytest.raises(NotSupported) as refused:
        parse("Patient" if type_name == parameters.COMMON else type_name, [(code, "1$2$3")])
    assert refused.value.issues[0].at == code


def test_a_named_query_is_not_ignored() -> None:
    """Without it the search would be another one, which lenient handling does not mean."""
    with pytest.raises(NotSupported, match="no named query"):
        parse("Patient", [("_query", "current"), ("unknown", "x")], strict=False)


def test_the_statement_names_exactly_what_is_served() -> None:
    rest: Any = capability_statement("http://localhost/fhir", parameters.R4)["rest"][0]
    for resource in rest["resource"]:
        named = {one["name"] for one in resource["searchParam"]}
        assert named == {one.code for one in SUPPORTED[resource["type"]]}
        assert "_query" not in named
    asked = {"_filter": "_id eq 1", "_has": "x", "_list": "l1", "_type": "Patient"}
    common = {one.code for one in supported(parameters.COMMON)}
    assert {one["name"] for one in rest["searchParam"]} == set(asked) | common
    for name, value in asked.items():
        full = "_has:Observation:patient:code" if name == "_has" else name
        assert parse("Patient", [(full, value)]).served == [(full, value)]
