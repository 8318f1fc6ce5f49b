"""Searches by any served parameter, with modifiers, chains, filters, result parameters and forged page links."""

import base64
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from tests.abuse.request import Asked, address
from tests.abuse.values import ANY, IDS, NOISE, OF_KIND

TYPES: Final = st.one_of(st.sampled_from(["Patient", "Observation", "Encounter"]), st.sampled_from(sorted(TYPE_IDS)))
_MODIFIERS = st.sampled_from(
    [""] * 8
    + [":missing", ":exact", ":contains", ":not", ":text", ":in", ":not-in", ":above", ":below", ":of-type"]
    + [":identifier", ":Patient", ":iterate", ":nonsense", ":", "::", ".name", ":Patient.name", ".", ":Patient.:"]
)
_OPERATORS = st.sampled_from(
    ["eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "re", "xx"]
)
_RESULTS: Final[dict[str, SearchStrategy[str]]] = {
    "_count": st.sampled_from(["0", "1", "-1", "1e9", "9" * 30, "", "1.5"]),
    "_sort": st.sampled_from(["name", "-date", "-", ",", "-_lastUpdated,_id", "code,-code,code", "--x", "_score"]),
    "_include": st.sampled_from(
        ["*", "Observation:subject", "Observation:*", "Patient", "::", "Observation:subject:X"]
    ),
    "_revinclude": st.sampled_from(["*", "Observation:subject", "*:*", "Observation:subject:Patient:x", ""]),
    "_include:iterate": st.sampled_from(["*", "Patient:link", "Observation:has-member"]),
    "_elements": st.sampled_from(["name", "name.family", ",", "x", "*", "id,meta", "Patient.name"]),
    "_summary": st.sampled_from(["true", "count", "text", "data", "false", "x"]),
    "_total": st.sampled_from(["none", "estimate", "accurate", "x"]),
    "_contained": st.sampled_from(["true", "both", "false", "x"]),
    "_containedType": st.sampled_from(["container", "contained", "x"]),
    "_type": st.sampled_from(["Patient,Observation", "X", ",", "Patient"]),
    "_list": IDS,
    "_lastUpdated": OF_KIND["date"],
    "_tag": OF_KIND["token"],
    "_profile": OF_KIND["uri"],
    "_source": OF_KIND["uri"],
    "_text": st.one_of(NOISE, st.sampled_from(["(a or b", '"', "not not", "a near b", "-", "or or", "\\"])),
    "_content": st.one_of(NOISE, st.sampled_from(["(a or b", '"', "not not", "a near b", "-", "or or", "\\"])),
    "_query": NOISE,
    "_has": NOISE,
    "_format": st.sampled_from(["xml", "json", "application/fhir+xml", "x"]),
    "near": OF_KIND["special"],
}


@st.composite
def condition(draw: DrawFn, type_name: str) -> tuple[str, str]:
    """A parameter of the type with a value of its kind, or of another."""
    known = parameters.of(type_name)
    one = known[draw(st.sampled_from(sorted(known)))]
    name = one.code
    shape = draw(st.integers(0, 9))
    if shape == 0 and one.targets:
        target = draw(st.sampled_from(sorted(one.targets - {"*"}) or ["Patient"]))
        name = f"{name}:{target}.{draw(st.sampled_from(sorted(parameters.of(target))))}" if target in TYPE_IDS else name
    elif shape == 1:
        name = f"_has:{draw(TYPES)}:{draw(st.sampled_from(['subject', 'patient', 'x', '']))}:{name}"
    elif shape == 2:
        return "_filter", draw(filters(type_name))
    values = draw(st.lists(st.one_of(OF_KIND[one.kind], OF_KIND[one.kind], ANY), min_size=1, max_size=3))
    return name + draw(_MODIFIERS), ",".join(values)


@st.composite
def filters(draw: DrawFn, type_name: str) -> str:
    """A _filter expression: tests joined, negated, nested, and with a character too many."""
    known = sorted(parameters.of(type_name))
    tests = []
    for _ in range(draw(st.integers(1, 3))):
        value = draw(st.one_of(ANY, ANY.map(lambda text: f'"{text}"')))
        tests.append(f"{draw(st.sampled_from(known))} {draw(_OPERATORS)} {value}")
    text = draw(st.sampled_from([" and ", " or ", " "])).join(tests)
    wrap = draw(st.sampled_from(["{}", "({})", "not({})", "(" * 80 + "{}" + ")" * 80, "{})", "subject[{}].name eq a"]))
    return wrap.replace("{}", text)


@st.composite
def searched(draw: DrawFn) -> Asked:
    """A search of a type, the system or a compartment, as GET, HEAD or POST."""
    type_name = draw(TYPES)
    query = draw(st.lists(condition(type_name), max_size=3))
    for name in draw(st.lists(st.sampled_from(sorted(_RESULTS)), max_size=2)):
        query.append((name, draw(_RESULTS[name])))
    path = draw(st.sampled_from([f"/fhir/{type_name}"] * 6 + ["/fhir", f"/fhir/Patient/a/{type_name}"]))
    headers = draw(st.sampled_from([{}, {}, {"Prefer": "handling=lenient"}, {"Accept": "application/fhir+xml"}]))
    if draw(st.integers(0, 4)):
        return Asked(draw(st.sampled_from(["GET", "GET", "HEAD"])), path, query, headers)
    form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    return Asked("POST", f"{path}/_search", headers=form, body=Asked("", "", query).target[1:].encode())


SEARCHES: Final = searched()

_FORGED = st.one_of(
    st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    st.sampled_from(["W10", "e30", "WzFd", "WzEsMiwzXQ", "WyJhIiwxXQ", "bnVsbA", "W1tbW1tb", "MWU5OTk"]),
    ANY,
)
CURSORS: Final = st.builds(
    Asked,
    method=st.just("GET"),
    path=st.one_of(
        st.sampled_from(["/fhir/Patient", "/fhir/Observation", "/fhir/_history", "/fhir/Patient/_history", "/fhir"]),
        st.sampled_from(["/fhir/Patient/a/_history", "/fhir/Patient/a/$everything", "/fhir/Encounter/e/$everything"]),
        IDS.map(lambda id: address("/fhir/Patient", id, "_history", id)),
    ),
    query=st.builds(
        lambda names, cursor, sort: [(name, cursor) for name in names] + sort,
        st.sampled_from([["_cursor"], ["_page"], ["_cursor", "_cursor"], ["_page", "_cursor"]]),
        _FORGED,
        st.sampled_from([[], [("_sort", "name")], [("_sort", "-birthdate,code")], [("_count", "1")]]),
    ),
)
