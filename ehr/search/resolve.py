"""What a plan asks of other tables before rows can be looked up → the same plan in values the index holds.

:text             texts in term that begin as asked
:in, :not-in      codes of the value set: loaded, a ValueSet of this record, or of the specification
:above, :below    codes of the code system, loaded or a CodeSystem of this record; profiles in term that lie under a url
:missing=false    outlines in term that have a value (:missing=true, and what is negated, the statement itself asks for)
:above, :below    of references: what the named resource is part of, or has as its parts (ehr.search.part_of)
_list             entries that are marked as deleted
quantities        in a UCUM unit: the same range in every unit in use that it converts to, so that what is stored costs
                  nothing more (1 g finds 1000 mg; the range of the digits is converted, not guessed anew)
Cost:    one statement for each such value, none for any other search
Errors:  NotSupported  rows of before are not indexed for it yet (ehr.index.formats)
         BadSearch  a value set or a code that is not known here, with what to do
         TooMuch  more than limits.search_codes_max codes, texts or parts
Source:  FHIR R4 3.1.1.4.10 token, 3.1.1.4.11 quantity, 3.1.1.5.5 modifiers
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import orjson

from ehr import limits
from ehr.errors import BadSearch, TooMuch
from ehr.fhir import references
from ehr.fhir.r4 import TYPE_IDS
from ehr.ids import FHIR_ID
from ehr.index import formats
from ehr.index.hashing import Hasher
from ehr.index.leaves import UCUM
from ehr.index.normalize import VALUE_CHARACTERS_MAX, fold
from ehr.index.term import UNIT
from ehr.search import part_of
from ehr.search.found import Bodies
from ehr.search.lower import parts_of, stored_in
from ehr.search.lower_values import after
from ehr.search.plan import SearchPlan
from ehr.search.terms import (
    AllOf,
    AnyOf,
    Chain,
    CompositeValue,
    Condition,
    Criterion,
    Has,
    InList,
    Missing,
    Not,
    NumberValue,
    PerType,
    ReferenceValue,
    Selves,
    StringValue,
    TextValue,
    TokenValue,
    UriValue,
    Value,
)
from ehr.store.canonicals import Canonicals
from ehr.store.codes import Asking, Codes
from terminology import hierarchy, read_fhir, valueset
from terminology.errors import Unreadable
from terminology.expand import expand
from terminology.resources import ValueSet
from terminology.ucum import Unit, unit_of

if TYPE_CHECKING:
    from ehr.database.connection import Connection
    from ehr.database.engine import Installation

_MODIFIERS: Final = frozenset({"text", "in", "not-in", "above", "below"})
_TEXTS: Final = """
select distinct value from term where param_id = any($1::int[]) and value >= $2 and ($3::text is null or value < $3)
limit $4"""
_OUTLINES: Final = "select distinct value::bigint as outline from term where param_id = any($1::int[]) limit $2"
_UNITS: Final = "select distinct value from term where param_id = $1"
_BY_ID: Final = "select body from resource where type_id = $1 and id = $2"
_BY_IDS: Final = "select body from resource where type_id = $1 and id = any($2::text[])"


async def resolved(
    connection: "Connection", plan: SearchPlan, installation: "Installation", hasher: Hasher, bodies: Bodies
) -> SearchPlan:
    """bodies: of Lists and ValueSets of the record, which are read to be resolved."""
    if not any(map(_asks, plan.conditions)):
        return plan
    resolver = _Resolver(connection, plan, installation, hasher, bodies)
    conditions = [await resolver.condition(one) for one in plan.conditions]
    return SearchPlan(plan.request, plan.access, plan.types, tuple(conditions), plan.includes)


def _asks(condition: Condition) -> bool:
    if isinstance(condition, Criterion):
        looked_up = _of_terminology(condition) or _spanned(condition) or _hierarchic(condition)
        return looked_up or any(map(_measured, condition.values))
    if isinstance(condition, Missing):
        return not condition.missing
    return isinstance(condition, InList) or any(map(_asks, _within(condition)))


def _within(condition: Condition) -> Iterable[Condition]:
    match condition:
        case Chain(links=links):
            return [inner for _, inner in links]
        case Has(inner=inner) | Not(inner):
            return [inner]
        case AllOf(conditions) | AnyOf(conditions):
            return conditions
        case PerType(conditions=shared):
            return [one for _, one in shared]
    return ()


def _of_terminology(criterion: Criterion) -> bool:
    if criterion.parameter.code == "_profile":
        return criterion.modifier == "below"
    return criterion.parameter.kind == "token" and criterion.modifier in _MODIFIERS


def _hierarchic(criterion: Criterion) -> bool:
    return criterion.parameter.kind == "reference" and criterion.modifier in {"above", "below"}


def _spanned(criterion: Criterion) -> bool:
    """Rows that are newer than the index may be."""
    return criterion.parameter.kind == "composite" and criterion.parameter.is_spanned


def _measured(value: Value) -> bool:
    """It has a UCUM unit, or one of its parts has."""
    if isinstance(value, CompositeValue):
        return any(map(_measured, value.parts))
    return isinstance(value, NumberValue) and value.system == UCUM and value.code is not None


@dataclass(slots=True)
class _Resolver:
    connection: "Connection"
    plan: SearchPlan
    installation: "Installation"
    hasher: Hasher
    bodies: Bodies
    units: dict[str, Unit] | None = None

    async def condition(self, condition: Condition, *, negated: bool = False) -> Condition:
        if not _asks(condition):
            return condition
        within = functools.partial(self.condition, negated=negated)
        made: Condition
        match condition:
            case Chain(links=links):
                made = replace(condition, links=tuple([(name, await within(one)) for name, one in links]))
            case Has(inner=inner):
                made = replace(condition, inner=await within(inner))
            case AllOf(conditions) | AnyOf(conditions):
                made = replace(condition, conditions=tuple([await within(one) for one in conditions]))
            case PerType(conditions=shared):
                made = PerType(tuple([(name, await within(one)) for name, one in shared]))
            case Not(inner):
                made = Not(await self.condition(inner, negated=True))
            case Criterion() | Missing() | InList():
                made = await self._leaf(condition, negated=negated)
            case _:
                raise AssertionError("nothing else asks")
        return made

    async def _leaf(self, condition: Criterion | Missing | InList, *, negated: bool) -> Condition:
        if isinstance(condition, Criterion):
            return await self._criterion(condition)
        if isinstance(condition, InList):
            return await self._in_list(condition)
        return condition if negated else await self._stated(condition)

    async def _stated(self, asked: Missing) -> Missing:
        """The planner judges by the values it sees: a parameter few have is looked up, one that most have is walked."""
        ids = [-part.id for part in stored_in(asked.parameter)]
        rows = await self.connection.fetch(_OUTLINES, ids, limits.search_codes_max + 1)
        if len(rows) > limits.search_codes_max:
            return asked
        return replace(asked, outlines=tuple([row["outline"] for row in rows]))

    async def _criterion(self, asked: Criterion) -> Criterion:
        found: list[Value] = []
        if _spanned(asked):
            await formats.require(self.connection, self.installation, formats.SPANS, _at(asked))
        for value in asked.values:
            if isinstance(value, ReferenceValue) and _hierarchic(asked):
                found += await self._parts(value, "below" if asked.modifier == "below" else "above")
            elif not _of_terminology(asked):
                found += await self._in_units(value, _at(asked))
            elif isinstance(value, StringValue):
                found += await self._texts(asked, value.text)
            elif isinstance(value, UriValue) and asked.parameter.kind == "uri":
                found += await self._profiles(asked, value.text)
            elif isinstance(value, UriValue):
                found += [TokenValue(system, code) for system, code in await self._set(asked, value.text)]
            elif isinstance(value, TokenValue):
                found += await self._hierarchy(asked, value)
        if len(found) > limits.search_codes_max:
            raise TooMuch(f"this stands for more than {limits.search_codes_max} values", at=_at(asked))
        modifier = {"text": "text", "not-in": "not"}.get(asked.modifier, "")
        return Criterion(asked.type_name, asked.parameter, modifier, tuple(found))

    async def _in_list(self, asked: InList) -> Condition:
        """Without what is in a List only as deleted (List.entry.deleted)."""
        live, deleted = set[tuple[str, str]](), set[tuple[str, str]]()
        for row in await self.connection.fetch(_BY_IDS, TYPE_IDS["List"], list(asked.ids)):
            for entry in orjson.loads(self.bodies.decompress(row["body"])).get("entry", ()):
                found = references.parse(str(entry.get("item", {}).get("reference", "")))
                if found.kind == "relative" and found.type and found.id:
                    (deleted if entry.get("deleted") is True else live).add((found.type, found.id))
        gone = sorted(deleted - live)
        return AllOf((asked.has, Not(Selves(tuple(gone))))) if gone else asked.has

    async def _texts(self, asked: Criterion, text: str) -> list[Value]:
        folded = fold(text)[:VALUE_CHARACTERS_MAX]
        return [TextValue(one) for one in await self._begin(asked, folded)] if folded else []

    async def _profiles(self, asked: Criterion, url: str) -> list[Value]:
        """The url itself, and what is a path segment further down."""
        below = await self._begin(asked, url.rstrip("/") + "/")
        return [UriValue(one) for one in (url, *below)]

    async def _begin(self, asked: Criterion, text: str) -> list[str]:
        await formats.require(self.connection, self.installation, formats.TERMS, _at(asked))
        ids = [part.id for part in parts_of(asked.parameter)]
        rows = await self.connection.fetch(_TEXTS, ids, text, after(text), limits.search_codes_max + 1)
        return [row["value"] for row in rows]

    async def _parts(self, value: ReferenceValue, direction: part_of.Direction) -> list[Value]:
        """What each of the named is part of, or has as its parts."""
        made: list[Value] = [ReferenceValue(uri=value.uri)] if value.uri else []
        for named in value.locals:
            ids = await part_of.walked(self.connection, self.hasher, self.plan.access, named, direction)
            made += [ReferenceValue(((named[0], id),)) for id in ids]
        return made

    async def _hierarchy(self, asked: Criterion, value: TokenValue) -> list[Value]:
        assert value.system is not None, "the parser wants it"
        assert value.code is not None, "the parser wants it"
        walk = hierarchy.below if asked.modifier == "below" else hierarchy.above
        codes = await walk(self.connection, value.system, value.code, limits.search_codes_max + 1)
        codes = codes or await self._hierarchy_of_stored(asked, value.system, value.code)
        if not codes:
            text = f"no code system here has the code {value.code[:64]}; load it, or search the codes themselves"
            raise BadSearch(text, at=_at(asked))
        return [TokenValue(value.system, code) for code in codes]

    async def _hierarchy_of_stored(self, asked: Criterion, system: str, code: str) -> list[str]:
        stored = await Codes().system(self._canonicals(), system, None)
        walk = hierarchy.below_in if asked.modifier == "below" else hierarchy.above_in
        return [] if stored is None else walk(stored, code)

    # -- value sets ----------------------------------------------------------------------------------------

    async def _set(self, asked: Criterion, name: str) -> Iterable[tuple[str, str]]:
        if not name.startswith("ValueSet/"):
            known = await valueset.codes_of(self.connection, name, limits.search_codes_max + 1)
            if known is not None:
                return known
        asking = Asking(Codes(), self._canonicals())
        try:
            stored = await self._stored(name)
            found = await asking.unstored(name) if stored is None else await expand(asking, stored)
        except Unreadable as error:
            raise BadSearch(f"the value set {name[:200]} cannot be expanded: {error}", at=_at(asked)) from error
        if found is not None:
            return found
        text = f"the value set {name[:200]} is not known here; load it, create it as a ValueSet, or name the codes"
        raise BadSearch(text, at=_at(asked))

    async def _stored(self, name: str) -> ValueSet | None:
        """A ValueSet of this record, by id or canonical url, where the caller may read it."""
        access = self.plan.access
        confined = access.person_id is not None and "ValueSet" not in access.open_types
        if confined or not access.grants.allow("ValueSet", "r"):
            return None
        type_id, id_ = TYPE_IDS["ValueSet"], name.removeprefix("ValueSet/")
        if name != id_:
            row = await self.connection.fetchval(_BY_ID, type_id, id_) if FHIR_ID.fullmatch(id_) else None
            found = None if row is None else self.bodies.decompress(row)
        else:
            found = await self._canonicals().follow("ValueSet", name)
        if found is None:
            return None
        tree = orjson.loads(found)
        tree.setdefault("url", f"urn:uuid:{tree['id']}")
        made = read_fhir.read(orjson.dumps(tree))[0]
        assert isinstance(made, ValueSet), "a ValueSet was asked for"
        return made

    def _canonicals(self) -> Canonicals:
        return Canonicals(self.connection, self.hasher, self.bodies)

    # -- units ---------------------------------------------------------------------------------------------

    async def _in_units(self, value: Value, at: str) -> list[Value]:
        if isinstance(value, CompositeValue):
            made: list[tuple[Value, ...]] = [()]
            for part in value.parts:
                parts = await self._in_units(part, at)
                made = [(*before, one) for before in made for one in parts]
            return [CompositeValue(parts) for parts in made]
        if not isinstance(value, NumberValue) or not _measured(value) or value.code is None:
            return [value]
        asked = unit_of(value.code)
        if asked is None:
            return [value]
        if self.units is None:
            await formats.require(self.connection, self.installation, formats.TERMS, at)
            rows = await self.connection.fetch(_UNITS, UNIT)
            self.units = {row["value"]: unit for row in rows if (unit := unit_of(row["value"])) is not None}
        others = [
            _converted(value, asked, code, unit)
            for code, unit in self.units.items()
            if code != value.code and _comparable(value.code, asked, code, unit)
        ]
        return [value, *(one for one in others if one is not None)]


def _comparable(asked_code: str, asked: Unit, code: str, unit: Unit) -> bool:
    """Pure numbers that say what they count ({score}) are compared with nothing else."""
    counted = not asked.dimensions and "{" in asked_code + code
    return asked.dimensions == unit.dimensions and not counted


def _converted(value: NumberValue, asked: Unit, code: str, unit: Unit) -> NumberValue | None:
    """Exact until the end; None where the number is beyond what is stored."""
    try:
        number, low, high = (
            float(asked.to(unit, Fraction(repr(one)))) for one in (value.number, value.low, value.high)
        )
    except OverflowError:
        return None
    return NumberValue(value.prefix, number, low, high, value.system, code)


def _at(asked: Criterion) -> str:
    return f"{asked.parameter.code}:{asked.modifier}" if asked.modifier else asked.parameter.code
