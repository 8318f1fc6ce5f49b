"""ehr.fhir.references: found with their path, taken apart, rewritten without touching what is no reference."""

import json
from importlib.resources import files
from typing import Any

import pytest

from ehr.fhir.references import URI_ELEMENTS, ParsedReference, find, outward, parse, rewrite
from ehr.fhir.structure import shape

URN = "urn:uuid:0a3a9b8c-5d0c-4d5e-8f55-1f6d5a9d3c01"
TREE: dict[str, Any] = {
    "resourceType": "Bundle",
    "entry": [
        {
            "fullUrl": "urn:uuid:0a3a9b8c-5d0c-4d5e-8f55-1f6d5a9d3c02",
            "resource": {
                "resourceType": "DocumentReference",
                "text": {"status": "generated", "div": f"<div><a href=\"{URN}\">{URN}</a><img src='{URN}'/></div>"},
                "identifier": [{"system": "urn:ietf:rfc:3986", "value": URN}],
                "subject": {"reference": URN},
                "author": [{"reference": "Practitioner?identifier=1"}, {"display": "x"}],
                "content": [{"attachment": {"url": URN, "title": URN}}],
                "extension": [{"url": "e", "valueUri": URN}, {"url": "e", "valueString": URN}],
                "meta": {"profile": [URN, "other"]},
            },
        }
    ],
}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("Patient/1", ParsedReference("relative", "Patient", "1")),
        ("Patient/1/_history/2", ParsedReference("relative", "Patient", "1", "2")),
        ("https://h/fhir/Patient/a-1.b", ParsedReference("absolute", "Patient", "a-1.b", None, "https://h/fhir")),
        ("#p1", ParsedReference("contained", id="p1")),
        (URN, ParsedReference("urn", id=URN[9:])),
        ("urn:oid:1.2", ParsedReference("urn", id="1.2")),
        ("Patient?identifier=a|b", ParsedReference("conditional", "Patient")),
        ("Bogus/1", ParsedReference("other")),
        ("Patient/a_b", ParsedReference("other")),
        ("Patient/", ParsedReference("other")),
        ("https://h/x", ParsedReference("other")),
        ("", ParsedReference("other")),
    ],
)
def test_references_are_taken_apart(text: str, parsed: ParsedReference) -> None:
    assert parse(text) == parsed


def test_references_are_found_with_their_path() -> None:
    assert [(found.path, found.value) for found in find(TREE)] == [
        ("Bundle.entry[0].resource.subject.reference", URN),
        ("Bundle.entry[0].resource.author[0].reference", "Practitioner?identifier=1"),
    ]


def test_a_found_reference_can_be_changed_in_place() -> None:
    tree = {"resourceType": "Observation", "subject": {"reference": "Patient/1"}}
    next(find(tree)).container["reference"] = "Patient/2"
    assert tree["subject"] == {"reference": "Patient/2"}


def test_rewriting_changes_references_uris_and_links_only() -> None:
    written = rewrite(TREE, {URN: "Patient/9", "Practitioner?identifier=1": "Practitioner/3"})["entry"][0]
    resource = written["resource"]
    assert resource["subject"] == {"reference": "Patient/9"}
    assert resource["author"] == [{"reference": "Practitioner/3"}, {"display": "x"}]
    assert resource["content"][0]["attachment"] == {"url": "Patient/9", "title": URN}
    assert resource["extension"] == [{"url": "e", "valueUri": "Patient/9"}, {"url": "e", "valueString": URN}]
    assert resource["meta"]["profile"] == [URN, "other"], "a canonical names no instance (http.html#trules)"
    assert resource["identifier"] == [{"system": "urn:ietf:rfc:3986", "value": URN}]
    assert resource["text"]["div"] == f"<div><a href=\"Patient/9\">{URN}</a><img src='Patient/9'/></div>"


def test_a_bundle_means_its_own_entries_by_their_names() -> None:
    other = "urn:uuid:9"
    own = ["urn:uuid:1", "http://h/fhir/Patient/2", "Patient/2", "urn:uuid:3", "urn:uuid:1/_history/1"]
    inner = {"resourceType": "Bundle", "entry": [{"fullUrl": "urn:uuid:3", "resource": {"resourceType": "Basic"}}]}
    member = [{"entity": {"reference": text}} for text in (*own, other)]
    tree = {
        "resourceType": "Bundle",
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Group", "member": member}},
            {"fullUrl": "http://h/fhir/Patient/2", "resource": {"resourceType": "Patient", "id": "2"}},
            {"fullUrl": "urn:uuid:8", "resource": inner},
        ],
    }
    assert outward(tree) == [other]
    written = rewrite(tree, dict.fromkeys([*own, other], "Patient/9"))
    assert written["entry"][1:] == tree["entry"][1:]
    assert written["entry"][0]["fullUrl"] == "urn:uuid:1"
    named = [one["entity"]["reference"] for one in written["entry"][0]["resource"]["member"]]
    assert named == [*own, "Patient/9"]


def test_rewriting_leaves_the_tree_it_was_given() -> None:
    rewrite(TREE, {URN: "Patient/9"})
    assert TREE["entry"][0]["resource"]["subject"] == {"reference": URN}


def test_every_element_that_is_a_uri_and_no_identifier_is_rewritten() -> None:
    """Left out: code, of which only that of ElementDefinition.type is a uri, and value, that of a primitive itself."""
    tables = json.loads((files("ehr.fhir.r4") / "structure.json").read_text(encoding="utf-8"))
    kinds = {"uri", "url", "oid", "uuid"}
    names = {name for kind in tables["types"] for name, member in shape(kind).members.items() if member.type in kinds}
    assert names - {"value", "code"} == URI_ELEMENTS
