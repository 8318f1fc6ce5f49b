"""Values as a client may send them: right ones, nearly right ones, and noise.

NOISE    any text, and texts that have broken other servers
OF_KIND  kind of a search parameter → texts that it reads, or nearly reads
JSON     any JSON value
"""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

NASTY: Final = (
    "",
    " ",
    "\x00",
    "\u200f",
    "\ud7ff",
    "Đặng",
    "a" * 3_000,
    "' or 1=1 --",
    "%' ; --",
    "$1",
    "%s%n",
    "{0}",
    "${jndi:x}",
    "../../etc/passwd",
    "\\",
    "\\,",
    "\\|",
    "||||",
    "$$$",
    "-",
    "1e999",
    "-1e-999",
    "9" * 400,
    "99999999999999999999",
    "0x10",
    "NaN",
    "null",
    "true",
    "[]",
    "{}",
    "&&&",
    "((((((((",
    "<a/>",
    "urn:uuid:",
    "http://",
    "#",
    "?",
    "Patient/",
    "Patient/a/_history/0",
)

NOISE: Final[SearchStrategy[str]] = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=12), st.text("ab01,|$\\:.-()'\"%*", max_size=12)
)
_YEAR = st.sampled_from(["2024", "1970", "0001", "9999", "0000", "10000", "-1"])
_DAY = st.sampled_from(["", "-02", "-13", "-02-29", "-02-30", "-12-31", "-00-00"])
_HOUR = st.sampled_from(["", "T", "T10:00", "T24:00:00Z", "T23:59:60Z", "T10:00:00.123456789+07:00", "T10:00:00+99:00"])
_PREFIX = st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap", "xx"])
DATES: Final = st.builds("".join, st.tuples(_PREFIX, _YEAR, _DAY, _HOUR))
_NUMBER = st.one_of(
    st.sampled_from(["0", "5.40", "-0", "1e2", "1e-400", "1e400", "5.", ".5", "+5", "1" * 200, "0." + "0" * 200 + "1"]),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)
NUMBERS: Final = st.builds("".join, st.tuples(_PREFIX, _NUMBER))
_CODE = st.sampled_from(["", "final", "2345-7", "male", "mg/dL", "Cel", "10*3/uL", "a\\|b", "http://x/" + "y" * 300])
_SYSTEM = st.sampled_from(["", "http://loinc.org", "http://unitsofmeasure.org", "urn:oid:1.2.3", "x"])
TOKENS: Final = st.one_of(_CODE, st.builds("|".join, st.tuples(_SYSTEM, _CODE)), st.builds("|".join, st.lists(_CODE)))
QUANTITIES: Final = st.builds("|".join, st.tuples(NUMBERS, _SYSTEM, _CODE))
REFERENCES: Final = st.sampled_from(
    [
        "a",
        "Patient/a",
        "Patient/a/_history/1",
        "Pateint/a",
        "http://other.example/fhir/Patient/a",
        "http://x|1|2",
        "#a",
        "urn:uuid:0b6f1f0c-0000-4000-8000-000000000000",
        "Patient/" + "a" * 65,
        "Patient/a b",
        "//",
    ]
)
URIS: Final = st.sampled_from(["http://hl7.org/fhir", "urn:oid:1.2", "x:", "http://[", "http://a/%zz", "::"])
POSITIONS: Final = st.builds(
    "|".join,
    st.lists(st.sampled_from(["21.03", "105.85", "91", "-181", "NaN", "10", "km", "mi", "", "1e400"]), max_size=6),
)
COMPOSITES: Final = st.builds("$".join, st.lists(st.one_of(TOKENS, NUMBERS, QUANTITIES, DATES), max_size=4))

OF_KIND: Final[dict[str, SearchStrategy[str]]] = {
    "string": NOISE,
    "date": DATES,
    "number": NUMBERS,
    "quantity": QUANTITIES,
    "token": TOKENS,
    "reference": REFERENCES,
    "uri": URIS,
    "special": POSITIONS,
    "composite": COMPOSITES,
}
ANY: Final = st.one_of(NOISE, *OF_KIND.values())

IDS: Final = st.one_of(st.sampled_from(["a", "b", "a1", "absent", "a" * 65, "a.b", "%2e%2e", "a_b", "-"]), NOISE)

JSON: Final[SearchStrategy[Any]] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        ANY,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["id", "extension", "url", "valueString", "reference", "system", "code", "text", "_id", ""]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
