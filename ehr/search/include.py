"""_include and _revinclude: the resources around the matches of one page.

In:      the matches and the plan's include steps; :iterate steps are run again on what they found
Out:     Included: each resource once, none that is a match already; over: more than limits.include_count_max, which
         shortens the page, or takes several for one match (ehr.search.include_walk)
Access:  the condition is in every statement, before its LIMIT: an include never shows what a search would not
Source:  FHIR R4 3.1.1.5.4, 3.1.1.5.5
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from ehr import limits
from ehr.database.partitions import partition_name
from ehr.fhir import parameters, references
from ehr.fhir.parameters import Parameter, walk
from ehr.fhir.r4 import TYPE_IDS
from ehr.search import contained, shards
from ehr.search.cursor import Place
from ehr.search.found import Bodies, Found, found_of
from ehr.search.lower import Lowering, parts_of, typed, wanted
from ehr.search.plan import IncludeStep, SearchPlan
from ehr.search.shape import (
    Clause,
    Either,
    Identified,
    Sharded,
    Tokens,
    Values,
)
from ehr.search.shape_statements import IncludedOf
from ehr.search.statements import fetch

if TYPE_CHECKING:
    from ehr.database.connection import Connection


@dataclass(slots=True)
class Asked:
    """What one statement asks of rows; each: of those of one type, in its partition."""

    clauses: list[Clause]
    to: Values
    each: tuple[tuple[str, tuple[Clause, ...]], ...] = ()


@dataclass(slots=True)
class Included:
    found: list[Found] = field(default_factory=list)
    over: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What one search looks around with."""

    connection: "Connection"
    plan: SearchPlan
    lowering: Lowering
    bodies: Bodies

    async def around(self, fresh: Sequence[Found], steps: Iterable[IncludeStep], seen: set[str], room: int) -> Included:
        """Everything around these, level by level, that is not seen; no more than there is room for."""
        result = Included()
        while fresh and steps:
            found: list[Found] = []
            for asked in self._asked(fresh, steps, seen):
                count = room + 1 - len(result.found) - len(found) + len(seen)
                for one in await self._fetch(asked, count):
                    if one.reference not in seen:
                        seen.add(one.reference)
                        found.append(one)
            result.found += found
            if len(result.found) > room:
                result.over = True
                return result
            fresh, steps = found, self.iterated
        return result

    @property
    def iterated(self) -> list[IncludeStep]:
        return [step for step in self.plan.includes if step.iterate]

    async def beyond(
        self, origin: Found, steps: Sequence[IncludeStep], place: Place | None, seen: set[str], count: int
    ) -> list[Found]:
        """What lies around one resource, by type and number, beyond a place."""
        found: dict[Place, Found] = {}
        for asked in self._asked([origin], steps, seen):
            for one in await self._fetch(asked, count + len(seen), place):
                if one.reference not in seen:
                    found[place_of(one)] = one
        return [found[at] for at in sorted(found)[:count]]

    async def one(self, reference: str) -> Found | None:
        """A resource by its address, where it is there and may be seen."""
        to = Values()
        address, _, fragment = reference.partition("#")
        name, _, id = address.partition("/")
        clauses = typed(to, [name]), Identified(wanted(to, [id])), *self.lowering.seen(to, [name])
        found = next(iter(await self._fetch(Asked(list(clauses), to), 1)), None)
        return contained.inside(found, fragment) if found is not None and fragment else found

    def _asked(self, fresh: Sequence[Found], steps: Iterable[IncludeStep], seen: set[str]) -> list[Asked]:
        return [*_forward(steps, self.lowering, fresh, seen), *_reverse(steps, self.lowering, fresh)]

    async def _fetch(self, asked: Asked, count: int, place: Place | None = None) -> list[Found]:
        to = asked.to
        at = None if place is None else (to.add(place[0]), to.add(place[1]))
        statement = IncludedOf(tuple(asked.clauses), to.add(count), at, each=asked.each)
        return found_of(await fetch(self.connection, statement, to), self.bodies)


async def included(look: Look, matches: Sequence[Found]) -> Included:
    if not look.plan.includes or not matches:
        return Included()
    return await look.around(matches, look.plan.includes, {one.reference for one in matches}, limits.include_count_max)


def place_of(found: Found) -> Place:
    return TYPE_IDS[found.type_name], found.rid


def _forward(steps: Iterable[IncludeStep], lowering: Lowering, fresh: Sequence[Found], seen: set[str]) -> list[Asked]:
    """The resources that fresh ones point to, by id."""
    pointed: dict[str, set[str]] = defaultdict(set)
    trees: dict[str, Any] = {}
    for step in steps:
        if step.reverse:
            continue
        for one in fresh:
            if one.body_type == step.source:
                tree = trees.setdefault(one.reference, None) or orjson.loads(one.body)
                trees[one.reference] = tree
                for type_name, id_ in _targets(tree, step.parameters):
                    if type_name in step.targets and f"{type_name}/{id_}" not in seen:
                        pointed[type_name].add(id_)
    made: list[Asked] = []
    for type_name, ids in pointed.items():
        to = Values()
        named = Identified(wanted(to, sorted(ids)))
        made.append(Asked([typed(to, [type_name]), named, *lowering.seen(to, [type_name])], to))
    return [*made, *_by_canonical(steps, lowering, fresh)]


def _by_canonical(steps: Iterable[IncludeStep], lowering: Lowering, fresh: Sequence[Found]) -> list[Asked]:
    """What fresh ones name by a canonical url: of the version that is named, or all where none is."""
    named: set[tuple[str, str]] = set()
    for step in steps:
        paths = [path.steps for one in step.parameters for path in one.paths if path.type == "canonical"]
        if step.reverse or not paths:
            continue
        trees = [orjson.loads(one.body) for one in fresh if one.body_type == step.source]
        urls = {text for tree in trees for path in paths for text in walk(tree, path) if isinstance(text, str)}
        named |= {(name, url) for name in step.targets if _is_canonical(name) for url in urls}
    if not named:
        return []
    to, names = Values(), sorted({name for name, _ in named})
    each = [_canonical(lowering, *one) for one in sorted(named)]
    plain = [hashes[0] for hashes in each if len(hashes) == 1]
    of_version = [(Tokens("all", to.add(hashes)),) for hashes in each if len(hashes) > 1]
    alternatives = [*([(Tokens("any", to.add(plain)),)] if plain else []), *of_version]
    return [Asked([typed(to, names), Either(tuple(alternatives)), *lowering.seen(to, names)], to)]


def _is_canonical(type_name: str) -> bool:
    """Whether its url is what it is known by, which has versions: that of a Device or a Subscription is an address."""
    return {"url", "version"} <= parameters.of(type_name).keys()


def _canonical(lowering: Lowering, type_name: str, canonical: str) -> list[int]:
    """Tokens of a resource that is known by the url, and has the version where one is named."""
    known, (url, _, version) = parameters.of(type_name), canonical.partition("#")[0].partition("|")
    tokens = [lowering.hasher.uri(known["url"].id, url)]
    return [*tokens, lowering.hasher.code(known["version"].id, version)] if version else tokens


def _targets(tree: Any, found: Iterable[Parameter]) -> Iterable[tuple[str, str]]:
    for parameter in found:
        for path in parameter.paths:
            for value in walk(tree, path.steps):
                text = value.get("reference") if isinstance(value, dict) else value
                if isinstance(text, str):
                    parsed = references.parse(text)
                    if parsed.kind == "relative" and parsed.type and parsed.id:
                        yield parsed.type, parsed.id


def _reverse(steps: Iterable[IncludeStep], lowering: Lowering, fresh: Sequence[Found]) -> list[Asked]:
    """The resources that point to fresh ones: of each type what its own references name, in one statement."""
    pointing: dict[str, list[tuple[Parameter, Found]]] = defaultdict(list)
    for step in steps:
        for parameter in step.parameters if step.reverse else ():
            targets = [one for one in fresh if one.type_name in step.targets and parameter.may_target(one.type_name)]
            pointing[step.source] += [(parameter, one) for one in targets]
    names = sorted(name for name, pairs in pointing.items() if pairs)
    if not names:
        return []
    partitions: dict[str, list[str]] = defaultdict(list)
    for name in names:
        partitions[partition_name(name)].append(name)
    to = Values()
    types = typed(to, names)
    each = [
        (partition, _naming(to, lowering, {one: pointing[one] for one in of_it}))
        for partition, of_it in partitions.items()
    ]
    return [Asked([types], to, tuple(each))]


def _naming(to: Values, lowering: Lowering, pairs: Mapping[str, list[tuple[Parameter, Found]]]) -> tuple[Clause, ...]:
    """Resources of some types that name one of these by its parameter; a patient's own lie in its shard.

    References are salted by parameter, and a parameter belongs to one type: types and tokens need no pairing.
    """
    every = [(source, parameter, one) for source, of_it in pairs.items() for parameter, one in of_it]
    tokens = {
        lowering.hasher.reference(part.id, part.slot, one.type_name, one.id)
        for _, parameter, one in every
        for part in parts_of(parameter)
    }
    clauses: list[Clause] = [Tokens("any", to.add(sorted(tokens))), *lowering.seen(to, pairs)]
    if all(
        one.type_name == "Patient" and parameter.code in shards.deciding(source) for source, parameter, one in every
    ):
        clauses.append(Sharded(wanted(to, sorted({one.shard for *_, one in every}))))
    return tuple(clauses)
