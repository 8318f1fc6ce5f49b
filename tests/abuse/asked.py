"""Requests nobody should send, made from what the server says it serves: its parameters, operations and documents.

Out:     requests(count, seed) → the same requests for the same numbers, one family after the other
Families searches, paths, headers, resources, noise, patches, expressions, operations, bundles, cursors, documented
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.abuse.bodies import BUNDLES, EXPRESSIONS, NOISES, PATCHES, RESOURCES
from tests.abuse.operations import OPERATIONS
from tests.abuse.request import Asked, address
from tests.abuse.searches import CURSORS, SEARCHES
from tests.abuse.values import ANY, IDS, NOISE

_SEGMENTS = st.one_of(
    st.sampled_from(["Patient", "Observation", "Pateint", "_history", "_search", "metadata", "$everything", "$no"]),
    st.sampled_from(["fhir", ".well-known", "smart-configuration", "$export-status", "files", "..", "1", "*"]),
    IDS,
)
_METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
PATHS: Final = st.builds(
    Asked,
    method=_METHODS,
    path=st.lists(_SEGMENTS, max_size=6).map(lambda parts: address("/fhir", *parts)),
    query=st.lists(st.tuples(st.sampled_from(["_format", "_pretty", "_since", "_at", "_page", "x"]), ANY), max_size=2),
)

_SAID: Final[Mapping[str, SearchStrategy[str]]] = {
    "Accept": st.sampled_from(["*/*;q=x", "application/fhir+xml;q=0.1, text/html", ";;", "a/b", "*", "a/b;q=1e9"]),
    "Accept-Encoding": st.sampled_from(["gzip;q=2", "br", ""]),
    "Authorization": st.sampled_from(["Bearer", "Bearer a.b.c", "Basic eA==", "Bearer e30.e30.", "bearer  x"]),
    "Content-Encoding": st.sampled_from(["gzip", "identity", "br, gzip"]),
    "Content-Type": st.sampled_from(["application/fhir+xml", "text/turtle", "x", "application/json; charset=utf-7"]),
    "Idempotency-Key": st.sampled_from(["k" * 300, "a b", "k1", ""]),
    "If-Match": st.sampled_from(['W/"1"', 'W/"99999999999999999999"', "*", '"x"', "W/", 'W/"1", W/"2"', 'W/"-1"']),
    "If-Modified-Since": st.sampled_from(["Thu, 01 Jan 1970 00:00:00 GMT", "yesterday", "Thu, 31 Feb 10000 0:0:0 GMT"]),
    "If-None-Exist": st.one_of(st.just("identifier=x|y"), st.text("abcdefg=&|%_:1$?", max_size=20)),
    "If-None-Match": st.sampled_from(["*", 'W/"1"', "W/x", '"'] * 2 + ["," * 2_000]),
    "Prefer": st.sampled_from(["return=none", "handling=lenient", "respond-async", "return=OperationOutcome,,;=", "="]),
    "X-Request-Id": st.sampled_from(["x", "a" * 65, "{}", "a\tb"]),
}
HEADERS: Final = st.builds(
    Asked,
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]),
    path=st.sampled_from(["/fhir/Patient/a", "/fhir/Patient", "/fhir", "/fhir/Patient/a/_history/1", "/fhir/Binary/a"]),
    headers=st.fixed_dictionaries({}, optional=dict(_SAID)),
    body=st.sampled_from([b"", b'{"resourceType":"Patient","id":"a"}', b"[]", b"\x1f\x8b"]),
)

FAMILIES: Final[Mapping[str, SearchStrategy[Asked]]] = {
    "searches": SEARCHES,
    "paths": PATHS,
    "headers": HEADERS,
    "resources": RESOURCES,
    "noise": NOISES,
    "patches": PATCHES,
    "expressions": EXPRESSIONS,
    "operations": OPERATIONS,
    "bundles": BUNDLES,
    "cursors": CURSORS,
}
SHARES: Final[Mapping[str, int]] = {"searches": 4, "resources": 2, "operations": 2, "expressions": 2}
"""How many times as many there are of a family as of another."""


def requests(count: int, number: int, documented: Mapping[str, Any]) -> Iterator[tuple[str, Asked]]:
    """At least so many requests, each with the name of its family. documented: the application's OpenAPI."""
    families = {**FAMILIES, "documented": documented_requests(documented)}
    shares = {name: SHARES.get(name, 1) for name in families}
    for name, family in families.items():
        for one in drawn(family, -(-count * shares[name] // sum(shares.values())), number):
            yield name, one


def drawn(family: SearchStrategy[Asked], count: int, number: int) -> list[Asked]:
    """So many of a family, by a seed."""
    found: list[Asked] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(family)
    def collect(one: Asked) -> None:
        found.append(one)

    keep: Callable[[], None] = collect
    keep()
    return found


def documented_requests(openapi: Mapping[str, Any]) -> SearchStrategy[Asked]:
    """Requests to the routes that FastAPI documents: by their own patterns, and noise."""
    routes = [
        (method, path, operation.get("parameters", []))
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    return st.one_of([_documented(*route) for route in routes])


def _documented(method: str, path: str, parameters: list[Mapping[str, Any]]) -> SearchStrategy[Asked]:
    """One route, each parameter of its path drawn."""
    named = {one["name"]: _of_schema(one["schema"]) for one in parameters if one["in"] == "path"}
    filled = st.fixed_dictionaries(named).map(
        lambda values: "/".join(address(values.get(part.strip("{}"), part)) for part in path.split("/"))
    )
    return st.builds(
        Asked,
        method=st.one_of(st.just(method.upper()), _METHODS),
        path=filled,
        query=st.lists(st.tuples(NOISE, NOISE), max_size=2),
    )


def _of_schema(schema: Mapping[str, Any]) -> SearchStrategy[str]:
    pattern = schema.get("pattern")
    return st.one_of(NOISE, st.from_regex(pattern)) if pattern else NOISE
