"""Texts that stand for arrays are read by PostgreSQL as the values they were made of."""

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr.store.arrays import numbers, texts
from tests.conftest import Server, run

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=4)
HARD = ["", "null", "NULL", '"', "\\", '\\"', "a,b", "{}", " a ", "Nguyễn", "\n\t"]


async def read(url: str, words: list[str], integers: list[int | None], floats: list[float]) -> tuple[object, ...]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT $1::text::text[], $2::text::bigint[], $3::text::float8[]",
            texts(words),
            numbers(integers),
            numbers(floats),
        )
    finally:
        await connection.close()
    assert row is not None
    return tuple(row)


@settings(deadline=None, max_examples=30)
@given(words=WORDS, integers=st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4))
def test_arrays_come_back(postgres_server: Server, words: list[str], integers: list[int | None]) -> None:
    floats = [0.0, -1.5e-7, 1e22, 0.1, float("inf")]
    assert run(read(postgres_server.url, words + HARD, integers, floats)) == (words + HARD, integers, floats)


def test_nothing_is_an_empty_array(postgres_server: Server) -> None:
    assert run(read(postgres_server.url, [], [], [])) == ([], [], [])
