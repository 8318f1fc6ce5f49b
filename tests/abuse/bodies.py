"""Bodies: valid resources with places changed, their XML, bytes that are neither, patches, bundles, expressions."""

import json
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ehr.fhir import codec
from ehr.fhir.xml_writer import to_xml
from tests.abuse.request import XML, Asked, posted
from tests.abuse.values import ANY, IDS, JSON, NOISE

VALID: Final[list[dict[str, Any]]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "conformance" / "valid.ndjson").read_text(encoding="utf-8").splitlines()
]
_ADDRESSED: Final = [one for one in VALID if one["resourceType"] not in ("Bundle", "Parameters")]


def slots(node: Any) -> list[tuple[Any, Any]]:
    """Every place in a tree, as the container and its key."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [place for key in keys for place in ((node, key), *slots(node[key]))]


@st.composite
def changed(draw: DrawFn, trees: list[dict[str, Any]] = VALID) -> dict[str, Any]:
    """A valid tree with up to three of its places replaced, dropped, wrapped or doubled."""
    tree: dict[str, Any] = codec.copied(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(0, 3))):
        places = slots(tree)
        if not places:
            break
        node, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(["replace", "replace", "drop", "wrap", "unwrap", "name", "add"]))
        if how == "replace":
            node[key] = draw(JSON)
        elif how == "drop":
            del node[key]
        elif how == "wrap":
            node[key] = [node[key], codec.copied(node[key])]
        elif how == "unwrap" and isinstance(node[key], list) and node[key]:
            node[key] = node[key][0]
        elif isinstance(node, dict):
            node[draw(NOISE) if how == "name" else f"_{key}"] = draw(JSON)
    return tree


@st.composite
def written(draw: DrawFn) -> Asked:
    """A create, update, validation or conditional write of a changed resource, as JSON or XML."""
    tree = draw(changed())
    type_name = tree.get("resourceType")
    path = f"/fhir/{type_name}" if isinstance(type_name, str) and type_name.isalpha() else "/fhir/Patient"
    method = draw(st.sampled_from(["POST", "POST", "PUT"]))
    if method == "PUT":
        id = draw(st.sampled_from(["a", "f1"]))
        tree["id"], path = id, f"{path}/{id}"
    elif draw(st.booleans()):
        path += "/$validate"
    asked = posted(path, tree, method=method)
    if draw(st.integers(0, 3)):
        return asked
    return Asked(method, path, headers={"Content-Type": XML, "Accept": XML}, body=draw(xml_of(tree)))


@st.composite
def xml_of(draw: DrawFn, tree: dict[str, Any]) -> bytes:
    """The XML of a valid resource with some text of it exchanged."""
    body = to_xml(json.dumps(draw(st.sampled_from(_ADDRESSED))).encode())
    old = draw(st.sampled_from([b'value="', b"<", b"/>", b"xmlns", b"http://hl7.org/fhir", b"?>"]))
    return body.replace(old, draw(st.sampled_from(_XML)), draw(st.sampled_from([1, -1])))


_XML: Final = (
    b"",
    b"<x/>",
    b'value="&#0;',
    b"&amp;",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    b"<![CDATA[",
    b"\xff\xfe",
    b"<!-- -- -->",
    b"<a>" * 300,
    b'xmlns:x="y" x:value="',
)
RESOURCES: Final = written()

_RAW = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"[" * 5_000, b'{"a":' * 5_000, b'{"resourceType":"Patient","a":' + b"9" * 5_000 + b"}", b"1e999"]
    ),
    st.sampled_from(
        [b'{"resourceType":"Patient","name":[{"family":"\\ud800"}]}', b'"\\u0000"', b"\xef\xbb\xbf{}", b"-"]
    ),
    st.sampled_from(
        [b"<a " + b"x='1' " * 5_000, b"<?xml version='1.0' encoding='utf-7'?><a/>", b"a=%zz&=&&b", b"null"]
    ),
)
NOISES: Final = st.builds(
    Asked,
    method=st.sampled_from(["POST", "PUT", "PATCH"]),
    path=st.one_of(
        st.sampled_from(["/fhir", "/fhir/Patient", "/fhir/Patient/a", "/fhir/Patient/_search", "/fhir/$validate"]),
        st.sampled_from(
            ["/fhir/$import", "/fhir/$viewdefinition-run", "/fhir/Binary", "/oauth/token", "/fhir/Patient/a/$meta-add"]
        ),
    ),
    headers=st.sampled_from(
        [
            {"Content-Type": media}
            for media in (
                "application/fhir+json",
                XML,
                "application/x-www-form-urlencoded",
                "application/json-patch+json",
            )
        ]
    ),
    body=_RAW,
)

_THERE = st.sampled_from(["/name/0/family", "/name/-", "/birthDate", "/name/0", "/active", "/gender", "/name"])
_POINTERS = st.one_of(
    _THERE,
    st.sampled_from(["", "/", "/name/99999999999999999999", "/~2", "/id", "/meta/versionId", "/resourceType", "name"]),
    st.sampled_from(["/name/00", "/name/-1", "/name/0/family/0", "/name/0/-", "/meta", "/_birthDate", "/name/1e0"]),
    NOISE,
)
_STEP = {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": _POINTERS, "value": JSON}
_JSON_PATCH = st.lists(
    st.one_of(
        st.fixed_dictionaries({**_STEP, "from": _POINTERS}),
        st.fixed_dictionaries({**_STEP, "path": _THERE, "from": _THERE}),
        st.fixed_dictionaries({}, optional={**_STEP, "op": st.sampled_from(["add", "x"]), "from": _POINTERS}),
    ),
    min_size=1,
    max_size=3,
)
WORDS: Final = (
    "name given . ( ) [ 0 ] where ( 'x' ) first ( ) + - * / div mod & | and or not ( ) is as in = != ~ < 5 1.5 "
    "{} true @2024 @T10 $this %context exists ( ) select ofType ( Patient ) resolve ( ) toString ( )"
)
"""What expressions are made of; brackets often."""
EXPRESSIONS_SAID: Final = (
    "Patient.name",
    "Patient.name[0].given",
    "name.where(use='x')",
    "Patient",
    "name.first().family",
    "1/0",
    "'a'",
    "name | name",
    "(" * 200 + "1",
    "a." * 400 + "a",
    "descendants().descendants()",
    "name.select(%resource)",
    "repeat(children())",
    "'a'.matches('(a*)*$')",
    "9999999999999999999 * 9999999999999999999",
    "@2024-13",
    "now() + 99999999999 years",
    "iif(",
    "`x",
    "%sct",
    "%`x`",
    "1 'mg' + 1 'h'",
    "'x'.substring(-1)",
    "$this",
    "'a'.replace('', 'b')",
    "2.power(9999)",
    "(1).round(99999)",
    "-" * 300 + "1",
    "{} and {}",
    "$index",
    "as(x)",
    "name.aggregate($total & $this, '')",
    "Patient.birthDate + 1 month",
    "10.log(0)",
    "(-1).sqrt()",
    "exp(1)",
)
FHIRPATHS: Final = st.one_of(
    st.sampled_from(EXPRESSIONS_SAID),
    st.sampled_from(EXPRESSIONS_SAID),
    st.lists(st.sampled_from(WORDS.split()), max_size=9).map("".join),
    NOISE,
)


def _part(name: str, kind: str, value: Any) -> dict[str, Any]:
    return {"name": name, kind: value}


_PARTS = {
    "type": st.builds(_part, st.just("type"), st.just("valueCode"), st.sampled_from(["add", "insert", "delete"])),
    "move": st.builds(_part, st.just("type"), st.just("valueCode"), st.sampled_from(["replace", "move", "x"])),
    "path": st.builds(_part, st.just("path"), st.just("valueString"), FHIRPATHS),
    "name": st.builds(
        _part, st.just("name"), st.just("valueString"), st.sampled_from(["name", "birthDate", "id", "x"])
    ),
    "value": st.builds(_part, st.just("value"), st.sampled_from(["valueString", "valueDate", "valueX", "part"]), JSON),
    "named": st.just({"name": "value", "part": [{"name": "family", "valueString": "Lê"}]}),
    "index": st.builds(_part, st.just("index"), st.just("valueInteger"), st.integers(-2, 2**33)),
    "source": st.builds(_part, st.just("source"), st.just("valueInteger"), st.integers(-1, 2)),
    "destination": st.builds(_part, st.just("destination"), st.just("valueInteger"), st.integers(-1, 2)),
}


def _operation(*names: str) -> SearchStrategy[dict[str, Any]]:
    return st.tuples(*(_PARTS[name] for name in names)).map(lambda parts: {"name": "operation", "part": list(parts)})


_OPERATION = st.one_of(
    _operation("type", "path", "name", "value"),
    _operation("type", "path", "name", "named"),
    _operation("type", "path", "value", "index"),
    _operation("type", "path"),
    _operation("move", "path", "value"),
    _operation("move", "path", "source", "destination"),
    _operation("path", "index"),
)
PATCHES: Final = st.one_of(
    st.builds(
        posted,
        st.sampled_from(["/fhir/Patient/a", "/fhir/Patient?_id=a", "/fhir/Observation/absent"]),
        _JSON_PATCH,
        method=st.just("PATCH"),
        media=st.just("application/json-patch+json"),
    ),
    st.builds(
        posted,
        st.just("/fhir/Patient/a"),
        st.fixed_dictionaries({"resourceType": st.just("Parameters"), "parameter": st.lists(_OPERATION, max_size=3)}),
        method=st.just("PATCH"),
    ),
)

_VIEW = st.fixed_dictionaries(
    {
        "resourceType": st.just("ViewDefinition"),
        "resource": st.sampled_from(["Patient"] * 5 + ["Observation", "Observation", "X", ""]),
        "select": st.lists(
            st.fixed_dictionaries(
                {
                    "column": st.lists(
                        st.fixed_dictionaries({"name": st.sampled_from(["a", "b", "1", ""]), "path": FHIRPATHS})
                    )
                },
                optional={"forEach": FHIRPATHS, "forEachOrNull": FHIRPATHS, "unionAll": JSON},
            ),
            max_size=2,
        ),
    },
    optional={"where": st.lists(st.fixed_dictionaries({"path": FHIRPATHS}), max_size=2), "constant": JSON},
)
_PARAMETER = st.fixed_dictionaries(
    {
        "resourceType": st.just("SearchParameter"),
        "url": st.just("http://example.org/fhir/SearchParameter/made"),
        "name": st.just("made"),
        "status": st.just("active"),
        "description": st.just("made"),
        "code": st.sampled_from(["made"] * 8 + ["name", "_id", "a:b", "", "a" * 65]),
        "base": st.sampled_from([["Patient"]] * 4 + [["Patient", "Observation"], ["X"], ["Resource"], []]),
        "type": st.sampled_from(
            ["string", "token", "date", "reference", "quantity", "uri", "number", "composite", "special"]
        ),
        "expression": FHIRPATHS,
    },
    optional={"component": JSON, "target": JSON, "id": IDS},
)
EXPRESSIONS: Final = st.one_of(
    st.builds(posted, st.just("/fhir/SearchParameter"), _PARAMETER),
    st.builds(
        lambda view, rest: posted(
            "/fhir/$viewdefinition-run",
            {"resourceType": "Parameters", "parameter": [{"name": "viewResource", "resource": view}, *rest]},
        ),
        _VIEW,
        st.lists(
            st.builds(_part, st.sampled_from(["_format", "_limit", "patient", "x"]), st.just("valueCode"), ANY),
            max_size=1,
        ),
    ),
)

_URLS = [
    "Patient",
    "Patient/a",
    "Patient?name=a",
    "Observation?subject=Patient/a",
    "metadata",
    "$export",
    "Patient/b?_x",
]
_CONDITIONS = ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince")
_ENTRY = st.fixed_dictionaries(
    {
        "request": st.fixed_dictionaries(
            {
                "method": st.sampled_from(["GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "X"]),
                "url": st.one_of(st.sampled_from(_URLS), st.sampled_from(_URLS), ANY),
            },
            optional=dict.fromkeys(_CONDITIONS, st.sampled_from(['W/"1"', "identifier=x", "name=a", "*", ""])),
        ),
        "resource": changed(_ADDRESSED),
    },
    optional={"fullUrl": st.sampled_from(["urn:uuid:0b6f1f0c-0000-4000-8000-000000000000", "urn:x", "http://a/b", ""])},
)
BUNDLES: Final = st.builds(
    posted,
    st.just("/fhir"),
    st.fixed_dictionaries(
        {
            "resourceType": st.just("Bundle"),
            "type": st.sampled_from(["batch"] * 4 + ["transaction"] * 4 + ["collection", "x"]),
            "entry": st.one_of(*[st.lists(_ENTRY, min_size=1, max_size=4)] * 4, JSON),
        }
    ),
)
