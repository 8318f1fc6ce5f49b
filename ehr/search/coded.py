"""A search by one code alone → its rows from the index of codes, the newest first (docs/adr/0108).

alone     the criterion, where the rows of one code are all that is asked for
one_code  a criterion of one code; tokens_of: those by which the index has it; can_list: whether it can be read
order_of  the order of such a search, where it names none
listed    a Lowering that reads the index; None where that would be dear: many rows have the code beside another, first
          one, or rows are indexed in an earlier format
"""

from typing import TYPE_CHECKING, Final

from ehr.index import formats
from ehr.index.hashing import Hasher
from ehr.index.main_code import main_code
from ehr.index.main_date import main_date
from ehr.search import expect
from ehr.search.lower import Lowering
from ehr.search.plan import SearchPlan
from ehr.search.terms import Condition, Criterion, SearchRequest, SortKey, TokenValue

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation

FURTHER_MAX: Final = 1_000
"""Rows that have the code beside another: they are looked up and sorted for each page."""


def alone(request: SearchRequest) -> Criterion | None:
    """Of a search that asks for nothing else."""
    if len(request.conditions) != 1 or request.type_name is None or request.compartment or request.content:
        return None
    return one_code(request.type_name, request.conditions[0]) if request.contained == "own" else None


def one_code(type_name: str, asked: Condition) -> Criterion | None:
    """By its system, since that is what the index has."""
    code = main_code(type_name)
    if code is None or not isinstance(asked, Criterion) or asked.modifier or asked.parameter.id != code.id:
        return None
    value = asked.values[0]
    one = len(asked.values) == 1 and isinstance(value, TokenValue) and value.code and value.system is not None
    return asked if one else None


def tokens_of(hasher: Hasher, asked: Criterion) -> tuple[int, int]:
    """Of the code as the first coding, and as a further one."""
    value = asked.values[0]
    assert isinstance(value, TokenValue), "looked at in one_code"
    assert value.code, "looked at in one_code"
    code = asked.parameter.id, value.system or None, value.code
    return hasher.token(*code), hasher.further(*code)


async def can_list(
    connection: "Connection", types: tuple[str, ...], installation: "Installation", hasher: Hasher, further: int
) -> bool:
    """Whether all rows have their code in its place, and few have this one beside another."""
    if installation.index_format < formats.CODES and await formats.standing(connection) < formats.CODES:
        return False
    return await expect.counted(connection, hasher, types, further, FURTHER_MAX + 1) <= FURTHER_MAX


def order_of(request: SearchRequest) -> list[SortKey]:
    """The newest first; of all other searches none."""
    if alone(request) is None or request.type_name is None or (date := main_date(request.type_name)) is None:
        return []
    return [SortKey(request.known.of(request.type_name)[date], "desc")]


async def listed(
    connection: "Connection", plan: SearchPlan, installation: "Installation", hasher: Hasher
) -> Lowering | None:
    asked = hasher, "coded"
    tokens = plan.kept.tokens.get(asked)
    if tokens is None:
        tokens = plan.kept.tokens[asked] = _tokens(plan, hasher)
    if not tokens:
        return None
    first, further = tokens
    if not await can_list(connection, plan.types, installation, hasher, further):
        return None
    return Lowering(hasher, plan.access, coded=(first, further))


def _tokens(plan: SearchPlan, hasher: Hasher) -> tuple[int, ...]:
    """Nothing, where something else is asked for."""
    request = plan.request
    asked, sort = alone(request), request.sort
    if asked is None or not request.count or len(sort) != 1 or plan.access.person_id is not None:
        return ()
    return tokens_of(hasher, asked) if sort[0].parameter.code == main_date(plan.type_name) else ()
