"""Slices: which values belong to which, by every kind of discriminator, and how many each may have."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.profile_definitions import (
    CORE,
    HERE,
    Tree,
    definition,
    element,
    errors,
    extension,
    found,
    observation,
    patient,
    reference_to,
    sliced,
)

LOINC = "http://loinc.org"
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"


def coded(code: str) -> Tree:
    return {"coding": [{"system": LOINC, "code": code}]}


def component(code: str, **more: Any) -> Tree:
    return {"code": coded(code), "valueQuantity": {"value": 120}, **more}


def pressure(rules: str = "open", *, ordered: bool = False) -> Tree:
    """Two components, told apart by their code."""
    at = "Observation.component"
    return definition(
        "pressure",
        "Observation",
        sliced(at, ("pattern", "code"), rules=rules, ordered=ordered),
        element(at, sliceName="systolic", min=1, max="1"),
        element(f"{at}.code", patternCodeableConcept=coded(SYSTOLIC)),
        element(f"{at}.valueQuantity", min=1),
        element(at, sliceName="diastolic", max="1"),
        element(f"{at}.code", patternCodeableConcept=coded(DIASTOLIC)),
    )


def test_each_slice_has_its_count_and_its_rules() -> None:
    assert errors(observation(component=[component(SYSTOLIC), component(DIASTOLIC)]), pressure()) == []
    assert errors(observation(component=[component(DIASTOLIC)]), pressure()) == ["Observation.component"]
    assert errors(observation(component=[component(SYSTOLIC)] * 2), pressure()) == ["Observation.component"]
    text = {"code": coded(SYSTOLIC), "valueString": "high"}
    assert errors(observation(component=[text]), pressure()) == ["Observation.component[0].value"]


def test_what_fits_no_slice_is_let_be_refused_or_sent_to_the_end() -> None:
    tree = observation(component=[component("x"), component(SYSTOLIC)])
    assert errors(tree, pressure("open")) == []
    assert errors(tree, pressure("closed")) == ["Observation.component[0]"]
    assert errors(tree, pressure("openAtEnd")) == ["Observation.component[0]"]
    assert errors(observation(component=[component(SYSTOLIC), component("x")]), pressure("openAtEnd")) == []


def test_ordered_slices_come_in_the_order_of_the_profile() -> None:
    both = [component(SYSTOLIC), component(DIASTOLIC)]
    assert errors(observation(component=both), pressure(ordered=True)) == []
    assert errors(observation(component=both[::-1]), pressure(ordered=True)) == ["Observation.component[1]"]


def test_the_rules_of_the_element_hold_in_every_slice() -> None:
    profile = pressure()
    profile["differential"]["element"].insert(1, element("Observation.component.interpretation", min=1))
    (at,) = errors(observation(component=[component(SYSTOLIC)]), profile)
    assert at == "Observation.component[0].interpretation"


def test_a_derived_profile_adds_to_a_slice_by_its_name() -> None:
    derived = definition(
        "p",
        "Observation",
        element("Observation.component", id="Observation.component:diastolic", sliceName="diastolic", min=1),
        base="pressure",
    )
    assert errors(observation(component=[component(SYSTOLIC)]), derived, pressure()) == ["Observation.component"]


# ---- discriminators


def test_by_a_value_deep_inside() -> None:
    at = "Patient.identifier"
    profile = definition(
        "p",
        "Patient",
        sliced(at, ("value", "type.coding.code"), ("value", "system")),
        element(at, sliceName="national", min=1),
        element(f"{at}.type.coding.code", fixedCode="NI"),
        element(f"{at}.system", fixedUri="urn:a"),
    )
    right = {"type": {"coding": [{"code": "X"}, {"code": "NI"}]}, "system": "urn:a", "value": "1"}
    assert errors(patient(identifier=[right]), profile) == ["Patient.identifier[0].type.coding[0].code"]
    right["type"]["coding"].pop(0)  # type: ignore[index]
    assert errors(patient(identifier=[right]), profile) == []
    assert errors(patient(identifier=[{**right, "system": "urn:b"}]), profile) == ["Patient.identifier"]


def test_by_existence() -> None:
    at = "Patient.contact"
    profile = definition(
        "p",
        "Patient",
        sliced(at, ("exists", "organization")),
        element(at, sliceName="institution", max="1"),
        element(f"{at}.organization", min=1),
        element(at, sliceName="relative", min=1),
        element(f"{at}.organization", max="0"),
    )
    institution, relative = {"organization": {"display": "a"}}, {"name": {"text": "b"}}
    assert errors(patient(contact=[institution, relative]), profile) == []
    assert errors(patient(contact=[institution, institution]), profile) == ["Patient.contact", "Patient.contact"]


def test_by_type() -> None:
    profile = definition(
        "p",
        "Observation",
        sliced("Observation.value[x]", ("type", "$this"), rules="closed"),
        element("Observation.value[x]", sliceName="valueQuantity", type=[{"code": "Quantity"}]),
        element("Observation.value[x].unit", min=1),
    )
    assert errors(observation(valueQuantity={"value": 1, "unit": "mg"}), profile) == []
    assert errors(observation(valueQuantity={"value": 1}), profile) == ["Observation.value.unit"]
    assert errors(observation(valueString="a"), profile) == ["Observation.value"]


def test_by_type_and_profile_of_the_resource_of_an_entry() -> None:
    named = definition("named", "Patient", element("Patient.name", min=1))
    profile = definition(
        "p",
        "Bundle",
        sliced("Bundle.entry", ("type", "resource"), ("profile", "resource")),
        element("Bundle.entry", id="Bundle.entry:patient", sliceName="patient", min=1, max="1"),
        element(
            "Bundle.entry.resource",
            id="Bundle.entry:patient.resource",
            min=1,
            type=[{"code": "Patient", "profile": [named["url"]]}],
        ),
    )

    def bundle(*resources: Tree) -> Tree:
        return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}

    assert errors(bundle(observation(), patient(name=[{"text": "a"}])), profile, named) == []
    assert errors(bundle(observation(), patient(gender="male")), profile, named) == ["Bundle.entry"]


def test_by_what_a_reference_resolves_to() -> None:
    at = "Observation.hasMember"
    final = definition("final", "Observation", element("Observation.status", patternCode="final"))
    profile = definition(
        "p",
        "Observation",
        sliced(at, ("profile", "resolve()"), rules="closed"),
        element(at, sliceName="final", max="1", type=reference_to("final")),
    )

    def tree(*states: str) -> Tree:
        contained = [{**observation(id=str(n)), "status": status} for n, status in enumerate(states)]
        return observation(contained=contained, hasMember=[{"reference": f"#{n}"} for n in range(len(states))])

    assert errors(tree("final"), profile, final) == []
    assert errors(tree("final", "final"), profile, final) == [at]
    assert errors(tree("preliminary"), profile, final) == [f"{at}[0]"]


def test_by_a_required_binding() -> None:
    at, value_set = "Patient.communication.language.coding", "http://example.org/ValueSet/s"
    binding = {"strength": "required", "valueSet": value_set}
    profile = definition(
        "p", "Patient", sliced(at, ("value", "$this")), element(at, sliceName="listed", min=1, binding=binding)
    )

    def tree(code: str) -> Tree:
        return patient(communication=[{"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}}])

    assert errors(tree("vi"), profile, codes={(value_set, "vi"): True}) == []
    (at_coding,) = errors(tree("en"), profile, codes={(value_set, "vi"): True})
    assert at_coding == "Patient.communication[0].language.coding"
    told = [(one.severity, one.code, one.at) for one in found(tree("vi"), profile)]
    assert ("warning", "not-found", f"{at_coding}[0]") in told, "the set is not known, and that is said"


def test_by_an_extension_inside() -> None:
    rank = extension("rank", element("Extension.valueCode", min=1))
    at = "Patient.contact"
    profile = definition(
        "p",
        "Patient",
        sliced(at, ("value", f"extension('{HERE}rank').value")),
        element(at, id=f"{at}:first", sliceName="first", min=1),
        element(
            f"{at}.extension",
            id=f"{at}:first.extension:rank",
            sliceName="rank",
            type=[{"code": "Extension", "profile": [rank["url"]]}],
        ),
        element(f"{at}.extension.value[x]", id=f"{at}:first.extension:rank.value[x]", fixedCode="1"),
    )

    def tree(code: str) -> Tree:
        return patient(contact=[{"name": {"text": "a"}, "extension": [{"url": rank["url"], "valueCode": code}]}])

    assert errors(tree("1"), profile, rank) == []
    assert errors(tree("2"), profile, rank) == [at]


def test_reslices_divide_a_slice() -> None:
    at = "Observation.component"
    profile = pressure()
    profile["differential"]["element"] += [
        element(
            at,
            id=f"{at}:systolic",
            sliceName="systolic",
            slicing={"discriminator": [{"type": "value", "path": "interpretation"}], "rules": "closed"},
        ),
        element(at, id=f"{at}:systolic/high", sliceName="systolic/high"),
        element(f"{at}.interpretation", id=f"{at}:systolic/high.interpretation", patternCodeableConcept={"text": "H"}),
    ]
    high = component(SYSTOLIC, interpretation=[{"text": "H"}])
    assert errors(observation(component=[high]), profile) == []
    assert errors(observation(component=[component(SYSTOLIC)]), profile) == [f"{at}[0]"]


# ---- extensions

RACE = extension(
    "race",
    sliced("Extension.extension", ("value", "url")),
    element("Extension.extension", id="Extension.extension:group", sliceName="group", min=1, max="1"),
    element("Extension.extension.url", id="Extension.extension:group.url", fixedUri="group"),
    element("Extension.extension.value[x]", id="Extension.extension:group.value[x]", min=1, type=[{"code": "string"}]),
    element("Extension.value[x]", max="0"),
    context=[{"type": "element", "expression": "Patient"}],
)


def race(*parts: Tree) -> Tree:
    return {"url": RACE["url"], "extension": list(parts)}


def test_a_complex_extension_is_held_to_its_definition() -> None:
    profile = definition("p", "Patient")
    right = race({"url": "group", "valueString": "Kinh"})
    assert errors(patient(extension=[right]), profile, RACE) == []
    assert errors(patient(extension=[race({"url": "other", "valueString": "a"})]), profile, RACE) == [
        "Patient.extension[0].extension"
    ]
    assert errors(patient(extension=[race({"url": "group", "valueCode": "a"})]), profile, RACE) == [
        "Patient.extension[0].extension[0].value"
    ]


def test_an_extension_stands_where_its_context_says() -> None:
    profile = definition("p", "Patient")
    right = race({"url": "group", "valueString": "Kinh"})
    assert errors(patient(name=[{"text": "a", "extension": [right]}]), profile, RACE) == [
        "Patient.name[0].extension[0]"
    ]
    assert errors(patient(_birthDate={"extension": [right]}), profile, RACE) == ["Patient.birthDate.extension[0]"]
    anywhere = {
        **RACE,
        "context": [{"type": "element", "expression": "HumanName"}, {"type": "element", "expression": "date"}],
    }
    assert errors(patient(name=[{"text": "a", "extension": [right]}]), profile, anywhere) == []
    assert errors(patient(_birthDate={"extension": [right]}), profile, anywhere) == []


def test_an_interface_of_r5_is_a_context_of_whatever_has_url_and_status() -> None:
    one = extension("e", context=[{"type": "element", "expression": "CanonicalResource"}])
    marked = {"extension": [{"url": one["url"], "valueCode": "a"}]}
    value_set = {"resourceType": "ValueSet", "status": "draft", **marked}
    assert errors(value_set, definition("p", "ValueSet"), one) == []
    assert errors(patient(**marked), definition("p", "Patient"), one) == ["Patient.extension[0]"]


def test_an_extension_is_a_modifier_where_its_definition_says() -> None:
    modifier = extension("not", element("Extension", isModifier=True), element("Extension.valueBoolean", min=1))
    profile = definition("p", "Patient")
    one = {"url": modifier["url"], "valueBoolean": True}
    assert errors(patient(modifierExtension=[one]), profile, modifier) == []
    assert errors(patient(extension=[one]), profile, modifier) == ["Patient.extension[0]"]


def test_an_unknown_modifier_is_told_and_an_unknown_extension_is_not() -> None:
    one = {"url": "http://example.org/unknown", "valueBoolean": True}
    profile = definition("p", "Patient")
    assert found(patient(extension=[one]), profile) == []
    (issue,) = found(patient(modifierExtension=[one]), profile)
    assert (issue.severity, issue.code, issue.at) == ("warning", "extension", "Patient.modifierExtension[0]")


def test_a_profile_may_demand_an_extension() -> None:
    at = "Patient.extension"
    profile = definition(
        "p", "Patient", element(at, sliceName="race", min=1, type=[{"code": "Extension", "profile": [RACE["url"]]}])
    )
    assert errors(patient(extension=[race({"url": "group", "valueString": "Kinh"})]), profile, RACE) == []
    assert errors(patient(extension=[{"url": "http://example.org/else", "valueCode": "a"}]), profile, RACE) == [at]


# ---- for any number of values


@given(
    st.lists(st.sampled_from([SYSTOLIC, DIASTOLIC, "x", "y"]), min_size=1, max_size=6),
    st.sampled_from(["open", "closed", "openAtEnd"]),
)
def test_slices_count_like_a_counter(codes: list[str], rules: str) -> None:
    wrong = errors(observation(component=[component(code) for code in codes]), pressure(rules))
    counts = [codes.count(SYSTOLIC) != 1, codes.count(DIASTOLIC) > 1]
    rest = [place for place, code in enumerate(codes) if code in ("x", "y")]
    expected = ["Observation.component"] * sum(counts)
    if rules == "closed":
        expected += [f"Observation.component[{place}]" for place in rest]
    elif rules == "openAtEnd" and rest and any(code in (SYSTOLIC, DIASTOLIC) for code in codes[rest[0] :]):
        expected.append(f"Observation.component[{rest[0]}]")
    assert sorted(set(map(str, wrong))) == sorted(set(expected))


def test_a_core_type_is_a_profile_too() -> None:
    profile = definition(
        "p", "Bundle", element("Bundle.entry.resource", type=[{"code": "Patient", "profile": [CORE + "Patient"]}])
    )
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": observation()}]}
    assert errors(bundle, profile) == ["Bundle.entry[0].resource"]
