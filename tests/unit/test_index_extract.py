"""What extraction puts into the index, against expectations written by hand."""

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from ehr.database.partitions import CODED_TYPES, OWN_TYPES
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.fhir.r4 import TYPE_IDS
from ehr.index import references
from ehr.index.extract import Extractor, IndexRows
from ehr.index.generate import source
from ehr.index.hashing import TARGET_MASK, Hasher
from ehr.index.main_code import main_code
from ehr.index.main_date import CHOSEN, main_date
from ehr.index.normalize import contact, fold
from ehr.index.ranges import date_range, period_range
from tests.unit.index_expectations import EXPECTED
from tests.unit.index_resources import OBSERVATION, PATIENT

HASHER = Hasher(-7_003_211)
EXTRACTOR = Extractor(HASHER)


def test_the_table_is_worth_its_name() -> None:
    assert sum(len(values) for _, values in EXPECTED.values()) >= 60


@pytest.mark.parametrize("type_name", EXPECTED)
def test_exactly_these_parameters_have_a_value(type_name: str) -> None:
    tree, expected = EXPECTED[type_name]
    rows = EXTRACTOR.extract(tree, type_name, tree["id"])
    known = parameters.of(type_name)
    assert stated(rows) == {known[code].id for code in expected}


def stated(rows: IndexRows) -> set[int]:
    """Parameters that have a value, by the outline."""
    return {-param_id for param_id, token in rows.terms if param_id < 0 and int(token) in rows.tokens}


def values(rows: IndexRows) -> set[int]:
    """Tokens without the outline."""
    return set(rows.tokens) - {int(token) for param_id, token in rows.terms if param_id < 0}


CASES = [(name, code) for name, (_, values) in EXPECTED.items() for code in values if values[code] is not None]


@pytest.mark.parametrize(("type_name", "code"), CASES)
def test_a_parameter_has_exactly_these_values(type_name: str, code: str) -> None:
    tree, expected = EXPECTED[type_name]
    parameter = parameters.of(type_name)[code]
    rows = EXTRACTOR.extract(tree, type_name, tree["id"])
    wanted = expected[code] or []
    match parameter.kind:
        case "token":
            assert {one for text in wanted for one in token_hashes(parameter, text)} <= set(rows.tokens)
            other = HASHER.code(parameter.id, "another")
            assert other not in rows.tokens
        case "reference":
            hashes = {reference_hash(parameter, text) for text in wanted}
            assert hashes <= set(rows.tokens)
            if not parameter.union:
                local = {reference_hash(parameter, text) for text in wanted if text.partition("/")[0] in TYPE_IDS}
                assert set(named(rows, parameter)) >= {HASHER.target(one, parameter.id) for one in local}
        case "uri":
            assert {HASHER.uri(parameter.id, text) for text in wanted} <= set(rows.tokens)
        case "string":
            assert {value for param_id, value in rows.strings if param_id == parameter.id} == set(map(fold, wanted))
        case "date":
            assert sorted(dates(rows, parameter, type_name)) == sorted(map(as_range, wanted))
        case "number" | "quantity":
            found = {row[1:] for row in rows.quantities if row[0] == parameter.id}
            assert found == {quantity_row(one) for one in wanted}


def token_hashes(parameter: Parameter, text: str) -> Iterator[int]:
    """Every form a search may ask for."""
    types = {path.type for path in parameter.paths}
    if "|" not in text:
        yield HASHER.code(parameter.id, contact(text) if "ContactPoint" in types else text)
        return
    system, code = text.split("|")
    yield HASHER.code(parameter.id, code)
    yield HASHER.token(parameter.id, system or None, code)
    if system:
        yield HASHER.system(parameter.id, system)


def reference_hash(parameter: Parameter, text: str) -> int:
    if text.startswith("@"):
        system, value = text[1:].split("|")
        return HASHER.identifier(parameter.id, system, value)
    type_name, slash, id = text.partition("/")
    if slash and type_name in TYPE_IDS:
        return HASHER.reference(parameter.id, parameter.slot, type_name, id)
    return HASHER.uri(parameter.id, text)


def named(rows: IndexRows, parameter: Parameter) -> Iterator[int]:
    """The way _has reads tokens: those with the slot, turned back into their targets."""
    return (HASHER.target(token, parameter.id) for token in rows.tokens if token & 255 == parameter.slot)


def dates(rows: IndexRows, parameter: Parameter, type_name: str) -> list[tuple[int | None, int | None]]:
    if parameter.code == main_date(type_name):
        return [(rows.date_lo_us, rows.date_hi_us)]
    return [(low, high) for param_id, low, high in rows.dates if param_id == parameter.id]


def as_range(text: str) -> Any:
    start, slash, end = text.partition("/")
    return period_range(start or None, end or None) if slash else date_range(text)


def quantity_row(one: Any) -> tuple[float, int, int]:
    number, system, code = one
    return number, HASHER.unit(None, code), HASHER.unit(system, "") if system else 0


def test_the_shard_is_the_source_patient() -> None:
    of_patient = HASHER.shard("Patient", "p")
    for type_name, (tree, _) in EXPECTED.items():
        rows = EXTRACTOR.extract(tree, type_name, tree["id"])
        outside = type_name in {"Organization", "Practitioner"} or tree["id"] == "t"
        assert rows.shard == (HASHER.shard(type_name, tree["id"]) if outside else of_patient)
        assert rows.tokens[0] == HASHER.shard(type_name, tree["id"]) & TARGET_MASK
        assert len(set(rows.tokens)) == len(rows.tokens)


def test_components_are_kept_together() -> None:
    rows = EXTRACTOR.extract(OBSERVATION, "Observation", "b")
    parameter = parameters.of("Observation")["component-code-value-quantity"]
    found = {row[1:] for row in rows.quantities if row[0] == parameter.id}
    unit = HASHER.unit(None, "mmHg")
    forms = ("c8480-6", "thttp://loinc.org\x1f8480-6")
    assert found == {(120.5, unit, HASHER.unit(None, form)) for form in forms}


def test_a_timing_is_its_outer_limits() -> None:
    tree = OBSERVATION | {"effectiveTiming": {"event": ["2026-05", "2026-03-01", "2026-04"]}}
    del tree["effectivePeriod"]
    rows = EXTRACTOR.extract(tree, "Observation", "b")
    march, may = date_range("2026-03-01"), date_range("2026-05")
    assert march is not None
    assert may is not None
    assert (rows.date_lo_us, rows.date_hi_us) == (march[0], may[1])


ODD: tuple[Any, ...] = (
    *(None, True, 7, "x", [], {}, [None], [[]], [7]),
    *({"x": 1}, {"coding": 7}, {"coding": [7]}, [{"coding": {"code": "x"}}]),
    *({"reference": 7}, {"reference": ""}, {"value": "x"}, {"value": float("inf")}, {"start": 7}),
)


@pytest.mark.parametrize("type_name", EXPECTED)
def test_odd_values_never_stop_the_rest(type_name: str) -> None:
    """The validator refuses them; the index passes over them."""
    tree, _ = EXPECTED[type_name]
    for name in tree:
        if name not in {"resourceType", "id"}:
            for odd in ODD:
                rows = EXTRACTOR.extract(tree | {name: odd}, type_name, tree["id"])
                assert rows.tokens


def test_every_type_compiles_and_every_main_date_is_single() -> None:
    for type_name in TYPE_IDS:
        compile(source(type_name, HASHER), type_name, "exec")
        assert type_name not in CHOSEN or main_date(type_name) == CHOSEN[type_name]


def test_another_key_gives_other_hashes() -> None:
    other = Extractor(Hasher(1)).extract(PATIENT, "Patient", "p")
    assert not set(other.tokens) & set(EXTRACTOR.extract(PATIENT, "Patient", "p").tokens)


def test_terms_come_with_each_resource_until_they_are_kept() -> None:
    extractor = Extractor(HASHER)
    first = extractor.extract(OBSERVATION, "Observation", "o")
    again = extractor.extract(OBSERVATION, "Observation", "o")
    assert first.terms
    assert again == first
    extractor.keep(first.terms)
    kept = extractor.extract(OBSERVATION, "Observation", "o")
    assert not kept.terms
    assert set(kept.tokens) == set(first.tokens)


def test_terms_of_resources_written_together_are_gathered_once() -> None:
    extractor = Extractor(HASHER)
    wanted = extractor.extract(OBSERVATION, "Observation", "o")
    apart = extractor.apart()
    made = [apart.extract(OBSERVATION, "Observation", f"o{n}") for n in range(3)]
    assert not any(rows.terms for rows in made)
    assert [set(rows.tokens[1:]) for rows in made] == [set(wanted.tokens[1:])] * 3
    assert extractor.new_terms(apart) == set(wanted.terms)
    extractor.keep(list(wanted.terms)[:1])
    assert extractor.new_terms(apart) == set(list(wanted.terms)[1:])


def test_what_was_gathered_is_freed_without_a_collection_of_garbage() -> None:
    gc.disable()
    try:
        apart = Extractor(HASHER).apart()
        apart.extract(OBSERVATION, "Observation", "o")
        remembered = weakref.ref(apart._leaves)
        del apart
        assert remembered() is None
    finally:
        gc.enable()


def test_a_reference_that_is_not_local_is_read_with_its_type_each_time() -> None:
    def rows(reference: dict[str, Any]) -> IndexRows:
        tree = {"resourceType": "Observation", "id": "o", "subject": reference}
        return EXTRACTOR.extract(tree, "Observation", "o")

    def tokens(reference: dict[str, Any]) -> set[int]:
        return set(rows(reference).tokens)

    urn, local = "urn:uuid:0e7f0e6e-4f2f-4b1c-8a70-5f5a2f5b6a11", "Patient/1"
    patient, subject = (parameters.of("Observation")[code].id for code in ("patient", "subject"))
    for _ in range(2):
        assert stated(rows({"reference": urn, "type": "Patient"})) == {patient, subject}
        assert stated(rows({"reference": urn})) == {subject}
        assert tokens({"reference": local}) < tokens({"reference": local, "identifier": {"value": "x"}})
        assert tokens({"reference": local}) != tokens({"reference": "Patient/2"})


def test_the_same_reference_means_what_its_element_means() -> None:
    both = {"resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/1"}}
    for _ in range(2):
        apart = [
            EXTRACTOR.extract({"resourceType": "Observation", "id": "o", **part}, "Observation", "o")
            for part in ({"subject": {"reference": "Patient/1"}}, {"performer": [{"reference": "Patient/1"}]})
        ]
        whole = EXTRACTOR.extract({**both, "performer": [{"reference": "Patient/1"}]}, "Observation", "o")
        assert values(apart[0]) != values(apart[1])
        assert values(whole) == values(apart[0]) | values(apart[1])
        assert stated(whole) == stated(apart[0]) | stated(apart[1])


def test_a_full_memory_of_references_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "CACHE_MAX", 10)
    hasher = Hasher(1)
    extractor = Extractor(hasher)
    trees = [
        {"resourceType": "Observation", "id": "o", "subject": {"reference": f"Patient/{number}"}}
        for number in range(12)
    ]
    first = [extractor.extract(tree, "Observation", "o") for tree in trees]
    assert len(hasher.targets) == 2
    assert [extractor.extract(tree, "Observation", "o") for tree in trees] == first


def test_the_first_coding_has_its_place_and_others_say_that_they_are_there() -> None:
    code = parameters.of("Observation")["code"].id
    loinc, local = {"system": "http://loinc.org", "code": "1-8"}, {"code": "x", "system": ""}
    first, other = HASHER.token(code, "http://loinc.org", "1-8"), HASHER.token(code, None, "x")
    beside_first, beside_other = HASHER.further(code, "http://loinc.org", "1-8"), HASHER.further(code, None, "x")
    for codings, placed, further in (
        ([loinc], first, []),
        ([local], other, []),
        (
            [loinc, local, loinc],
            first,
            [HASHER.further(code, None, "x"), HASHER.further(code, "http://loinc.org", "1-8")],
        ),
        ([{"display": "no code"}, loinc], None, [HASHER.further(code, "http://loinc.org", "1-8")]),
        (["odd", {"code": 7}, {"code": ["x"]}], None, []),
        ("odd", None, []),
    ):
        rows = EXTRACTOR.extract({"code": {"coding": codings}}, "Observation", "o")
        assert rows.placed == (1 if placed is None else 2)
        assert placed is None or rows.tokens[1] == placed
        assert {beside_first, beside_other} & set(rows.tokens) == set(further)
        assert len(rows.tokens) == len(set(rows.tokens))


def test_types_that_are_listed_by_a_code_have_one_concept_and_a_main_date() -> None:
    for type_name in CODED_TYPES:
        found = main_code(type_name)
        assert found is not None
        (path,) = found.paths
        assert (found.kind, path.type, len(path.steps)) == ("token", "CodeableConcept", 1)
        assert not path.steps[0].many
        assert main_date(type_name) is not None
        assert type_name in OWN_TYPES
    assert main_code("AllergyIntolerance") is None
