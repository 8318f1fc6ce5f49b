"""FHIR JSON and FHIR XML are two forms of one resource: nothing is lost on the way there and back.

Generated from the definitions, Synthea and official examples where they are present: EHR_FHIR_EXAMPLES names a folder
with the unpacked npm package hl7.fhir.r4.examples.
"""

import gzip
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from ehr.errors import InvalidResource, Malformed, TooMuch
from ehr.fhir.narrative import XHTML
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Member, shape
from ehr.fhir.xml_reader import to_json
from ehr.fhir.xml_writer import FHIR, order, to_xml

EXAMPLES = os.environ.get("EHR_FHIR_EXAMPLES")
EXAMPLES_STEP = 5
"""One in so many of the official examples: all of them take minutes."""

SYNTHEA_LINES = 40

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=8)
numbers = st.sampled_from(["0", "-1", "13.50", "1E-10", "1.0e5", "12345678901234567890.0123456789", "0.0000000001"])
SEVERAL = ("Observation", "Patient", "Questionnaire", "Bundle", "Parameters", "Timing", "StructureDefinition")


class _Number(str):
    """A number of the JSON text, told apart from a string of the same characters."""


def exact(body: bytes) -> Any:
    return json.loads(body, parse_int=lambda text: _Number(f"#{text}"), parse_float=lambda text: _Number(f"#{text}"))


def without_div(node: Any) -> Any:
    """XHTML has many spellings of the same: <br/> and <br />."""
    if isinstance(node, dict):
        return {name: without_div(value) for name, value in node.items() if name != "div"}
    return [without_div(one) for one in node] if isinstance(node, list) else node


@st.composite
def resources(draw: st.DrawFn, type_name: str, depth: int = 0) -> dict[str, Any]:
    """Any elements the definition allows, whatever rules of another kind say."""
    return {"resourceType": type_name, **draw(objects(type_name, depth))}


@st.composite
def objects(draw: st.DrawFn, kind: str, depth: int) -> dict[str, Any]:
    members = {name: member for name, member in shape(kind).members.items() if depth < 4 or member.is_primitive}
    names = draw(st.lists(st.sampled_from(sorted(members)), max_size=4 if depth < 3 else 2, unique=True))
    if kind == "Extension":
        names = ["url", *(name for name in names if name != "url")]
    node: dict[str, Any] = {}
    for name in names:
        _add(draw, node, name, members[name], depth)
    return node if node or kind in TYPE_IDS else {"id": "x"}


def _add(draw: st.DrawFn, node: dict[str, Any], name: str, member: Member, depth: int) -> None:
    many = member.element.max is None
    if member.is_primitive and member.type != "xhtml" and (name not in ("id", "url")) and draw(st.booleans()):
        node[f"_{name}"] = [{"id": "a"}, None][: draw(st.integers(1, 1))] if many else {"id": "a"}
        if many and draw(st.booleans()):
            node[name] = [None, draw(values(member, depth))]
            node[f"_{name}"].append(None)
            return
    if f"_{name}" not in node:
        node[name] = [draw(values(member, depth))] * draw(st.integers(1, 2)) if many else draw(values(member, depth))


def values(member: Member, depth: int) -> st.SearchStrategy[Any]:
    match member.type:
        case "boolean":
            return st.booleans()
        case "decimal":
            return numbers.map(_Number)
        case "integer" | "positiveInt" | "unsignedInt":
            return st.integers(-(2**31), 2**31)
        case "xhtml":
            return st.just(f'<div xmlns="{XHTML}">a<br/>b &amp; <b title="c">d</b></div>')
        case "Resource":
            return resources("Basic", depth + 2)
        case kind if member.is_primitive:
            return texts
        case kind:
            return objects(kind, depth + 1)


def dumped(node: Any) -> bytes:
    """JSON with the digits of every _Number."""
    if isinstance(node, dict):
        return b"{" + b",".join(json.dumps(name).encode() + b":" + dumped(value) for name, value in node.items()) + b"}"
    if isinstance(node, list):
        return b"[" + b",".join(map(dumped, node)) + b"]"
    return node.encode() if isinstance(node, _Number) else json.dumps(node).encode()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from([*SEVERAL, *sorted(TYPE_IDS)]).filter(TYPE_IDS.__contains__).flatmap(resources), st.booleans())
def test_what_is_written_is_read_again(tree: dict[str, Any], pretty: bool) -> None:
    body = dumped(tree)
    written = to_xml(body, pretty=pretty)
    in_order(etree.fromstring(written), tree["resourceType"])
    assert exact(to_json(written)) == exact(body)


def in_order(element: etree._Element, kind: str) -> None:
    """As the schema of the specification has it: known elements, in their order, in their namespaces."""
    names = [etree.QName(child).localname for child in element]
    assert names == sorted(names, key=order(kind).__getitem__)
    for child, name in zip(element, names, strict=True):
        member = shape(kind).members[name]
        assert etree.QName(child).namespace == (XHTML if member.type == "xhtml" else FHIR)
        if member.type == "Resource":
            in_order(child[0], etree.QName(child[0]).localname)
        elif not member.is_primitive:
            in_order(child, member.type)


def test_synthea_comes_back_with_every_digit(shared_data: Path) -> None:
    files = sorted((shared_data / "synthea-10").rglob("*.ndjson.gz"))
    assert files
    for file in files:
        with gzip.open(file) as lines:
            for _, line in zip(range(SYNTHEA_LINES), lines, strict=False):
                assert without_div(exact(to_json(to_xml(line)))) == without_div(exact(line))


def test_official_examples_come_back() -> None:
    if EXAMPLES is None:
        pytest.skip("EHR_FHIR_EXAMPLES names no folder with the official examples")
    files = sorted(Path(EXAMPLES).glob("[A-Z]*.json"))[::EXAMPLES_STEP]
    assert len(files) > 800
    for file in files:
        body = file.read_bytes()
        assert without_div(exact(to_json(to_xml(body), bytes_max=len(body) * 4))) == without_div(exact(body)), file.name


@pytest.mark.parametrize(
    ("div", "shown"),
    [
        (f'<div xmlns="{XHTML}">a <br /> b</div>', "a <br /> b"),
        ("<div>a</div>", ">a<"),
        (f'<div xmlns="{XHTML}">a&nbsp;b &eacute; &lt;</div>', "a\u00a0b é &lt;"),
        (f'<div xmlns="{XHTML}">a\x01b</div>', "a\ufffdb"),
        (f'<div xmlns="{XHTML}"><p>a</div>', "a"),
        (f'<div xmlns="{XHTML}">bone & joint</div>', "bone &amp; joint"),
        (f'<div xmlns="{XHTML}">a &unknown; &#0; &#xD800; b</div>', "a &amp;unknown; &amp;#0; &amp;#xD800; b"),
        (f'<div xmlns="{XHTML}">a ]]> b</div>', "a ]]&gt; b"),
        (f'<div xmlns="{XHTML}"><p o:x="1" class="c">a</p></div>', '<p class="c">a</p>'),
    ],
)
def test_a_narrative_is_xhtml_whatever_was_stored(div: str, shown: str) -> None:
    written = to_xml(json.dumps({"resourceType": "Basic", "text": {"status": "generated", "div": div}}).encode())
    assert shown in written.decode()
    assert etree.fromstring(written)[0][1].tag == f"{{{XHTML}}}div"


def test_a_prefix_means_the_same() -> None:
    sent = f"""<f:Basic xmlns:f="{FHIR}" xmlns:h="{XHTML}"><f:text><f:status value="generated"/>
      <h:div><h:p class="x">a</h:p></h:div></f:text><f:code id="c"><f:text value="a&#10;b"/></f:code></f:Basic>"""
    assert json.loads(to_json(sent.encode())) == {
        "resourceType": "Basic",
        "text": {"status": "generated", "div": f'<div xmlns="{XHTML}"><p class="x">a</p></div>'},
        "code": {"id": "c", "text": "a\nb"},
    }


def patient_of(content: str, attributes: str = "") -> bytes:
    return f'<Patient xmlns="{FHIR}"{attributes}>\n{content}</Patient>'.encode()


WRONG = {
    "an unknown element": (patient_of('<foo value="1"/>'), "Patient.foo", "(line 2)"),
    "an unknown attribute": (patient_of('\n<active value="true" x="1"/>'), "Patient.active.x", "(line 3)"),
    "an attribute of the resource": (patient_of("", ' id="p"'), "Patient.id", "(line 1)"),
    "the order": (patient_of('<active value="true"/><id value="p"/>'), "Patient.id", "before active"),
    "twice": (patient_of('<active value="true"/><active value="true"/>'), "Patient.active", "only once"),
    "nothing in it": (patient_of("<name/>"), "Patient.name[0]", "empty"),
    "no value": (patient_of("<active/>"), "Patient.active", "must have a value"),
    "a boolean": (patient_of('<active value="1"/>'), "Patient.active", "true or false"),
    "a number": (patient_of('<multipleBirthInteger value="+1"/>'), "Patient.multipleBirthInteger", "a number"),
    "text": (patient_of("<name>Nguyễn</name>"), "Patient.name[0]", "no text"),
    "the second name": (
        patient_of('<name><family value="a"/></name><name><famly value="a"/></name>'),
        "Patient.name[1].famly",
        "unknown element of HumanName; did you mean family?",
    ),
    "a div of no namespace": (
        patient_of('<text><status value="generated"/><div>a</div></text>'),
        "Patient.text.div",
        "unknown element",
    ),
    "two resources": (patient_of("<contained><Basic/><Basic/></contained>"), "Patient.contained[0]", "one resource"),
    "no resource": (patient_of("<contained><Foo/></contained>"), "Patient.contained[0]", "resource type"),
    "no type": (b"<Foo/>", None, "must be a resource type"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_path_and_line(name: str) -> None:
    body, at, text = WRONG[name]
    with pytest.raises(InvalidResource) as refused:
        to_json(body)
    assert any(issue.at == at and text in issue.text for issue in refused.value.issues), refused.value.issues
    assert all("Nguyễn" not in issue.text for issue in refused.value.issues)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidResource) as refused:
        to_json(patient_of('<active value="1"/><foo/><birthDate/>'))
    assert [issue.at for issue in refused.value.issues] == ["Patient.active", "Patient.foo", "Patient.birthDate"]


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Patient",
        b"\xff\xfe",
        "<Patient/>".encode("utf-16"),
        f'<!DOCTYPE x [<!ENTITY a0 "x">{LAUGHS}]>{patient_of("&a11;").decode()}'.encode(),
        f'<!DOCTYPE x SYSTEM "file:///etc/passwd">{patient_of("").decode()}'.encode(),
        f'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>{patient_of("&e;").decode()}'.encode(),
        patient_of("&nbsp;"),
        patient_of("<name>" * 300 + "</name>" * 300),
        patient_of("<extension url='x'>" * 70 + "<valueString value='x'/>" + "</extension>" * 70),
    ],
)
def test_nothing_in_a_document_makes_the_reader_fetch_or_grow(body: bytes) -> None:
    with pytest.raises(Malformed):
        to_json(body)


def test_attributes_are_looked_at_once() -> None:
    """Otherwise half an hour of a process for a body of 5 MiB."""
    many = " ".join(f'a{number}="x"' for number in range(50_000))
    began = time.process_time()
    with pytest.raises(InvalidResource):
        to_json(f'<Patient xmlns="{FHIR}" {many}/>'.encode())
    assert time.process_time() - began < 5


def test_a_document_over_its_bound_is_not_parsed() -> None:
    with pytest.raises(TooMuch):
        to_json(patient_of(" " * 100), bytes_max=100)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(patient_of))
def test_no_body_makes_a_bug(body: bytes) -> None:
    try:
        to_json(body)
    except (InvalidResource, Malformed):
        return
