"""_include and _revinclude: the resources around the matches of one page.

In:      the matches and the plan's include steps; :iterate steps are run again on what they found
Out:     Included: each resource once, none that is a match already; over: more than limits.include_count_max
Access:  the condition is in every statement, before its LIMIT: an include never shows what a search would not
Source:  FHIR R4 3.1.1.5.4, 3.1.1.5.5
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from sqlalchemy import Select, select

from ehr import limits
from ehr.database.engine import compiled
from ehr.database.tables import resource
from ehr.errors import Issue
from ehr.fhir import references
from ehr.fhir.parameters import Parameter, walk
from ehr.fhir.r4 import TYPE_IDS
from ehr.search.compile import Compiler, parts_of
from ehr.search.found import Bodies, Found, found_of
from ehr.search.plan import IncludeStep, SearchPlan

if TYPE_CHECKING:
    from ehr.store.connection import Connection

COLUMNS: Final = ("type_id", "id", "version", "updated", "rid", "shard", "body")


@dataclass(slots=True)
class Included:
    found: list[Found] = field(default_factory=list)
    over: bool = False
    issues: list[Issue] = field(default_factory=list)


async def included(
    connection: "Connection", plan: SearchPlan, compiler: Compiler, matches: Sequence[Found], bodies: Bodies
) -> Included:
    result = Included()
    if not plan.includes or not matches:
        return result
    seen = {one.reference for one in matches}
    fresh: Sequence[Found] = matches
    steps: Iterable[IncludeStep] = plan.includes
    while fresh and steps:
        statements = [*_forward(steps, compiler, fresh, seen), *_reverse(steps, compiler, fresh)]
        found: list[Found] = []
        for statement in statements:
            room = limits.include_count_max + 1 - len(result.found) - len(found)
            made = compiled(statement.order_by(resource.c.type_id, resource.c.rid).limit(room + len(seen)))
            for row in await connection.fetch(made.sql, *made.args):
                one = found_of(row, bodies)
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


def _forward(
    steps: Iterable[IncludeStep], compiler: Compiler, fresh: Sequence[Found], seen: set[str]
) -> list[Select[Any]]:
    """The resources that fresh ones point to, by id."""
    wanted: dict[str, set[str]] = defaultdict(set)
    trees: dict[str, Any] = {}
    for step in steps:
        if step.reverse:
            continue
        for one in fresh:
            if one.type_name == step.source:
                tree = trees.setdefault(one.reference, None) or orjson.loads(one.body)
                trees[one.reference] = tree
                for type_name, id_ in _targets(tree, step.parameters):
                    if type_name in step.targets and f"{type_name}/{id_}" not in seen:
                        wanted[type_name].add(id_)
    made = []
    for type_name, ids in wanted.items():
        clauses = [resource.c.type_id == TYPE_IDS[type_name], resource.c.id.in_(sorted(ids))]
        made.append(_columns().where(*clauses, *compiler.seen(resource, [type_name])))
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


def _reverse(steps: Iterable[IncludeStep], compiler: Compiler, fresh: Sequence[Found]) -> list[Select[Any]]:
    """The resources that point to fresh ones; all source types in one statement."""
    hasher = compiler.hasher
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
    clauses = [compiler.typed(resource, names), resource.c.tokens.overlap(tokens)]
    return [_columns().where(*clauses, *compiler.seen(resource, names))]


def _columns() -> Select[Any]:
    return select(*(resource.c[name] for name in COLUMNS))
