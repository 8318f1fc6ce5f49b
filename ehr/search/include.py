"""_include and _revinclude: the resources around the matches of one page.

In:      the matches and the plan's include steps; :iterate steps are run again on what they found
Out:     Included: each resource once, none that is a match already; over: more than limits.include_count_max
Access:  the condition is in every statement, before its LIMIT: an include never shows what a search would not
Source:  FHIR R4 3.1.1.5.4, 3.1.1.5.5
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from ehr import limits
from ehr.errors import Issue
from ehr.fhir import references
from ehr.fhir.parameters import Parameter, walk
from ehr.search.found import Bodies, Found, found_of
from ehr.search.lower import Lowering, parts_of, typed, wanted
from ehr.search.plan import IncludeStep, SearchPlan
from ehr.search.shape import Clause, Identified, IncludedOf, Tokens, Values
from ehr.search.statements import sql_of

if TYPE_CHECKING:
    from ehr.store.connection import Connection

Asked = tuple[list[Clause], Values]


@dataclass(slots=True)
class Included:
    found: list[Found] = field(default_factory=list)
    over: bool = False
    issues: list[Issue] = field(default_factory=list)


async def included(
    connection: "Connection", plan: SearchPlan, lowering: Lowering, matches: Sequence[Found], bodies: Bodies
) -> Included:
    result = Included()
    if not plan.includes or not matches:
        return result
    seen = {one.reference for one in matches}
    fresh: Sequence[Found] = matches
    steps: Iterable[IncludeStep] = plan.includes
    while fresh and steps:
        found: list[Found] = []
        for clauses, to in [*_forward(steps, lowering, fresh, seen), *_reverse(steps, lowering, fresh)]:
            room = limits.include_count_max + 1 - len(result.found) - len(found)
            sql = sql_of(IncludedOf(tuple(clauses), to.add(room + len(seen))))
            for one in found_of(await connection.fetch(sql.text, *sql.arguments(to)), bodies):
                if one.reference not in seen:
                    seen.add(one.reference)
                    found.append(one)
        result.found += found
        if len(result.found) > limits.include_count_max:
            return _cut(result)
        fresh, steps = found, [step for step in plan.includes if step.iterate]
    return result


def _cut(result: Included) -> Included:
    result.over = True
    del result.found[limits.include_count_max :]
    text = f"more than {limits.include_count_max} resources would be included; search them by themselves to see all"
    result.issues = [Issue("incomplete", text, "_include", "warning")]
    return result


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
        made.append(([typed(to, [type_name]), named, *lowering.seen(to, [type_name])], to))
    return made


def _targets(tree: Any, found: Iterable[Parameter]) -> Iterable[tuple[str, str]]:
    for parameter in found:
        for path in parameter.paths:
            for value in walk(tree, path.steps):
                text = value.get("reference") if isinstance(value, dict) else None
                if isinstance(text, str):
                    parsed = references.parse(text)
                    if parsed.kind == "relative" and parsed.type and parsed.id:
                        yield parsed.type, parsed.id


def _reverse(steps: Iterable[IncludeStep], lowering: Lowering, fresh: Sequence[Found]) -> list[Asked]:
    """The resources that point to fresh ones; all source types in one statement."""
    hasher = lowering.hasher
    alternatives: dict[str, set[int]] = defaultdict(set)
    for step in steps:
        if not step.reverse:
            continue
        for one in fresh:
            if one.type_name in step.targets:
                for parameter in step.parameters:
                    if parameter.may_target(one.type_name):
                        for part in parts_of(parameter):
                            alternatives[step.source].add(hasher.reference(part.id, part.slot, one.type_name, one.id))
    if not alternatives:
        return []
    # References are salted by parameter, and a parameter belongs to one type: types and tokens need no pairing.
    names = sorted(alternatives)
    tokens = sorted(set().union(*alternatives.values()))
    to = Values()
    return [([typed(to, names), Tokens("any", to.add(tokens)), *lowering.seen(to, names)], to)]
