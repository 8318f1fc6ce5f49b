"""The criteria of conditional interactions: text → pairs, a claim key, and the resources that match.

In:      "identifier=system|value&…" of If-None-Exist, Bundle.entry.request.ifNoneExist, PUT and DELETE urls, references
Out:     Criteria; ids of current resources, at most as many as tell 0, 1 and many apart
Whose:   a facility's client means its own resources. Only types that tell nothing of a patient (Organization,
         Practitioner …) are looked for with the city and then with the others, and never to be changed:
         a facility's patient number says nothing in another facility
Source:  FHIR R4 3.1.0.8.1 conditional create, 3.1.0.11.1 conditional references in a transaction
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode

from ehr.access.policy import DIRECTORY_TYPES, AccessPredicate, Caller
from ehr.errors import Invalid, Malformed, NotSupported, PreconditionFailed
from ehr.fhir import parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.store.access_sql import arguments, seen

if TYPE_CHECKING:
    from ehr.store.unit_of_work import UnitOfWork

MATCHES_MAX: Final = 2
CITY: Final = 0

_BY_TOKEN: Final = f"""
SELECT w.n, m.id FROM unnest($4::int[], $5::bigint[]) AS w(n, token) CROSS JOIN LATERAL (
    SELECT r.id FROM resource r
    WHERE r.type_id = $3 AND r.tokens @> ARRAY[w.token] AND ($6::int IS NULL OR r.source = $6) AND {seen("r")}
    LIMIT $7
) m
"""  # noqa: S608 - constants of ours


_OF_THE_ANSWER: Final = frozenset(
    {"_format", "_pretty", "_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude"}
)
"""Parameters that say how a search is answered, and nothing of what matches."""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What must match. pairs are decoded and sorted, so that equal criteria have equal keys.

    identifier  (system, value) when the criteria are one exact identifier
    key         the claim key: the same for every spelling of the same criteria
    """

    type_name: str
    pairs: tuple[tuple[str, str], ...]
    identifier: tuple[str, str] | None = field(init=False, compare=False)
    key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        identifier = _identifier(self.pairs)
        object.__setattr__(self, "identifier", identifier)
        object.__setattr__(self, "key", identifier_key(*identifier) if identifier else urlencode(self.pairs))


def _identifier(pairs: tuple[tuple[str, str], ...]) -> tuple[str, str] | None:
    if len(pairs) != 1 or pairs[0][0] != "identifier":
        return None
    text = pairs[0][1]
    system, bar, value = text.partition("|")
    if not bar or not system or not value or "|" in value or "," in text or "\\" in text or "$" in text:
        return None
    return system, value


def identifiers(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """System and value of each identifier that has both, the masterIdentifier of a document too."""
    held = resource.get("identifier")
    for one in [*(held if isinstance(held, list) else [held]), resource.get("masterIdentifier")]:
        if isinstance(one, dict) and isinstance(one.get("system"), str) and isinstance(one.get("value"), str):
            yield one["system"], one["value"]


def refuse_unlike(asked: Criteria, new: Mapping[str, Any], at: str) -> None:
    """What is made because nothing matches must match: else the same request makes another one each time."""
    if asked.identifier is not None and asked.identifier not in identifiers(new):
        why = "nothing matches the criteria, and what was sent would not either: it lacks their identifier"
        raise Invalid(why, at=at)


def identifier_key(system: str, value: str) -> str:
    return f"{system}|{value}"


def parse(type_name: str, text: str, at: str | None = None) -> Criteria:
    """Criteria from a query string, with or without "Type?" or "?" before it."""
    if type_name not in TYPE_IDS:
        raise NotSupported("this is not a resource type of FHIR R4", at=at)
    before, mark, query = text.partition("?")
    if not mark or "=" in before:  # a mark within a value separates nothing
        before, query = "", text
    if before not in ("", type_name):
        why = f"criteria of a {type_name} are the parameters of a search: identifier=system|value"
        raise NotSupported(why, at=at)
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError as error:
        raise Malformed("the criteria are not UTF-8", at=at) from error
    kept = sorted(pair for pair in pairs if pair[0].partition(":")[0] not in _OF_THE_ANSWER)
    if any(_is_blank(name, value) for name, value in kept):
        raise PreconditionFailed("a criterion has no value: what is left may match something else", at=at)
    if not kept:
        raise PreconditionFailed("conditional criteria are empty: they would match everything", at=at)
    return Criteria(type_name, tuple(kept))


def _is_blank(name: str, value: str) -> bool:
    """Nothing where a value was meant to be; of an identifier a system alone, which would mean whoever has any."""
    parts = value.split(",") if name == "identifier" else (value,)
    return any(not part.strip() or (name == "identifier" and part.rstrip().endswith("|")) for part in parts)


async def matches(uow: "UnitOfWork", caller: Caller, access: AccessPredicate, asked: Criteria) -> list[str]:
    """matches_many for one."""
    return (await matches_many(uow, caller, access, [asked]))[asked]


async def referents(uow: "UnitOfWork", caller: Caller, access: AccessPredicate, asked: Criteria) -> list[str]:
    """referents_many for one."""
    return (await referents_many(uow, caller, access, [asked]))[asked]


async def matches_many(
    uow: "UnitOfWork", caller: Caller, access: AccessPredicate, asked: Sequence[Criteria]
) -> dict[Criteria, list[str]]:
    """What a conditional update or delete of this caller may change: ids for each criteria; two stand for many."""
    return await _find(uow, access, asked, caller.facility_id or None)


async def referents_many(
    uow: "UnitOfWork", caller: Caller, access: AccessPredicate, asked: Sequence[Criteria]
) -> dict[Criteria, list[str]]:
    """What a conditional reference or a conditional create of this caller may mean."""
    found = await _find(uow, access, asked, caller.facility_id or None)
    for source in (CITY, None) if caller.facility_id else ():
        open_still = [c for c in asked if not found.get(c) and c.type_name in DIRECTORY_TYPES]
        if open_still:
            found |= await _find(uow, access, open_still, source)
    return found


async def _find(
    uow: "UnitOfWork", access: AccessPredicate, asked: Sequence[Criteria], source: int | None
) -> dict[Criteria, list[str]]:
    """One statement for all exact identifiers of a type; the search for every other condition."""
    found: dict[Criteria, list[str]] = {}
    exact: dict[str, list[Criteria]] = {}
    for one in dict.fromkeys(asked):
        if one.identifier is not None and "identifier" in parameters.of(one.type_name):
            exact.setdefault(one.type_name, []).append(one)
        else:
            found[one] = await _search(uow, access, one, source)
    for type_name in sorted(exact):
        found |= await _by_identifier(uow, access, type_name, exact[type_name], source)
    return found


async def _by_identifier(
    uow: "UnitOfWork", access: AccessPredicate, type_name: str, asked: Sequence[Criteria], source: int | None
) -> dict[Criteria, list[str]]:
    await uow.plan("once")
    param_id = parameters.of(type_name)["identifier"].id
    tokens = [uow.record.hasher.token(param_id, *one.identifier) for one in asked if one.identifier]
    rows = await uow.connection.fetch(
        _BY_TOKEN, *arguments(access), TYPE_IDS[type_name], list(range(len(asked))), tokens, source, MATCHES_MAX
    )
    found: dict[Criteria, list[str]] = {one: [] for one in asked}
    for row in rows:
        found[asked[row["n"]]].append(row["id"])
    return found


async def _search(uow: "UnitOfWork", access: AccessPredicate, asked: Criteria, source: int | None) -> list[str]:
    record = uow.record
    matcher = record.matcher
    assert matcher is not None, "ehr.record gives the record a matcher"
    await uow.plan("values")

    async def matched() -> list[str]:
        known = record.parameters
        return await matcher(
            uow.connection, asked.type_name, asked.pairs, access, source=source, limit=MATCHES_MAX, known=known
        )

    try:
        return await matched()
    except NotSupported:  # it may be served since this process looked
        if not await record.learn_parameters(uow.connection):
            raise
        return await matched()
