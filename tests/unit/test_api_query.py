"""A query without escapes is read without looking for any, and reads the same."""

from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ehr import limits
from ehr.api.exchange import parsed_query
from ehr.errors import Malformed, TooMuch


@given(st.text(alphabet="ab=&;|,:/ #?đ%+2", max_size=16))
@example("code=a|b&&_sort&=x&a=b=c")
def test_a_query_reads_as_the_standard_library_reads_it(query: str) -> None:
    try:
        expected = parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(Malformed):
            parsed_query(query.encode())
    else:
        assert parsed_query(query.encode()) == expected


@pytest.mark.parametrize("value", ["x", "%78"])
def test_more_parameters_than_a_search_may_have_are_refused_before_they_are_read(value: str) -> None:
    fields_max = limits.search_parameters_max * 4
    assert len(parsed_query("&".join([f"a={value}"] * fields_max).encode())) == fields_max
    with pytest.raises(TooMuch):
        parsed_query("&".join([f"a={value}"] * (fields_max + 1)).encode())


@pytest.mark.parametrize("query", [b"a=\x00", b"a=%00", b"\x00=a"])
def test_a_nul_is_no_text(query: bytes) -> None:
    with pytest.raises(Malformed):
        parsed_query(query)
