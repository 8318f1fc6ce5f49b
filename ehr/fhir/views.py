"""A ViewDefinition and resources → rows. Pure; a view is read once and its paths are compiled once.

In:      tree of a ViewDefinition; trees of resources
Out:     View: its columns with their types; rows(resource) → dicts in the order of the columns
Errors:  Invalid with the FHIRPath of the element: a view that cannot be read, a column twice, a union of different
         columns, several values where a column holds one, a value that is no primitive, a where that is no boolean
Serves   select, column (path, name, type, collection), forEach, forEachOrNull, repeat, unionAll, where, constant,
         %rowIndex, getResourceKey(), getReferenceKey([Type])
Keys     "Type/id", so that keys of different types never meet; a key is opaque, and equal where it means the same
Source:  SQL on FHIR v2, StructureDefinition ViewDefinition, "Processing algorithm (model)"
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeVar

from ehr.errors import Invalid, TooMuch
from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import Environment, Expression, Item
from ehr.fhir.fhirpath.items import computed, root_item
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.references import parse as parse_reference

Row = dict[str, Any]
Part = Callable[["Scope"], list[Row]]
"""What a select makes of one element."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}", re.ASCII)
_TYPED_KEY: Final = re.compile(r"getReferenceKey\(\s*([A-Z][A-Za-z]{1,63})\s*\)", re.ASCII)
_FUNCTIONS: Final = frozenset({"getResourceKey", "getReferenceKey"})
_SELECT: Final = frozenset({"column", "select", "forEach", "forEachOrNull", "repeat", "unionAll"})
_REPEATED_MAX: Final = 10_000
"""Elements one repeat may reach in a resource."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """type: a FHIR type, where the view says one."""

    name: str
    type: str | None
    collection: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """One element in hand, and where it is among those that were iterated."""

    item: Item
    resource: Mapping[str, Any]
    constants: Mapping[str, Item]
    index: int = 0

    def at(self, item: Item, index: int) -> "Scope":
        return Scope(item, self.resource, self.constants, index)


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled expression, and its place in the view."""

    expression: Expression
    at: str

    def of(self, scope: Scope) -> list[Item]:
        variables = {**scope.constants, "rowIndex": computed(scope.index, "Integer")}
        environment = Environment(variables=variables, functions=_KEYS)
        try:
            return self.expression.evaluate(scope.item, resource=scope.resource, environment=environment)
        except fhirpath.ExpressionError as error:
            raise Invalid(str(error), at=self.at) from error


class View:
    """One ViewDefinition, ready to be run over any number of resources."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        resource = tree.get("resource")
        if not isinstance(resource, str) or resource not in TYPE_IDS:
            raise Invalid("a view names the resource type it is of", at="ViewDefinition.resource")
        self.resource = resource
        name = tree.get("name")
        self.name = name if isinstance(name, str) and _NAME.fullmatch(name) else resource
        self._constants = _constants(tree)
        wheres = _listed(tree, "where", dict, "ViewDefinition")
        self._where = [_path(one, "path", at) for one, at in wheres]
        parts, self.columns = _selects(_listed(tree, "select", dict, "ViewDefinition"))
        if not parts:
            raise Invalid("a view selects something", at="ViewDefinition.select")
        self._select = _product(parts)

    def rows(self, resource: Mapping[str, Any]) -> list[Row]:
        """The rows of one resource; none where it is of another type, or a where does not hold."""
        if resource.get("resourceType") != self.resource:
            return []
        scope = Scope(root_item(resource, None), resource, self._constants)
        if not all(_holds(scope, path) for path in self._where):
            return []
        return self._select(scope)


# -- reading -----------------------------------------------------------------------------------------------------


def _selects(listed: Iterable[tuple[Mapping[str, Any], str]]) -> tuple[list[Part], tuple[Column, ...]]:
    parts: list[Part] = []
    columns: list[Column] = []
    for select, at in listed:
        part, own = _select(select, at)
        parts.append(part)
        columns += own
    _refuse_twice(columns)
    return parts, tuple(columns)


def _select(select: Mapping[str, Any], at: str) -> tuple[Part, tuple[Column, ...]]:
    for name in select:
        if name not in _SELECT and name not in ("id", "extension", "modifierExtension"):
            raise Invalid("a select has no such element", at=f"{at}.{name}")
    values = [_column(one, place) for one, place in _listed(select, "column", dict, at)]
    columns = [column for column, _ in values]
    parts: list[Part] = [_columns(values)] if values else []
    inner, of_inner = _selects(_listed(select, "select", dict, at))
    parts += inner
    columns += of_inner
    branches = [_select(one, place) for one, place in _listed(select, "unionAll", dict, at)]
    if branches:
        if any(not _alike(branches[0][1], own) for _, own in branches):
            text = "the branches of a union have the same columns in the same order, of the same types"
            raise Invalid(text, at=f"{at}.unionAll")
        parts.append(_union([part for part, _ in branches]))
        columns += branches[0][1]
    if not parts:
        raise Invalid("a select has columns, selects or a union", at=at)
    _refuse_twice(columns)
    return _iterated(select, _product(parts), columns, at), tuple(columns)


def _alike(some: Sequence[Column], others: Sequence[Column]) -> bool:
    """A column without a type fits one of any."""
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(
        (one.name, one.collection) == (other.name, other.collection)
        and (one.type == other.type or None in (one.type, other.type))
        for one, other in pairs
    )


def _refuse_twice(columns: Sequence[Column]) -> None:
    names = [one.name for one in columns]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"the column {name} is there twice", at="ViewDefinition.select.column.name")


def _column(tree: Mapping[str, Any], at: str) -> tuple[Column, Path]:
    name, kind, collection = tree.get("name"), tree.get("type"), tree.get("collection", False)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Invalid("a column's name begins with a letter and goes on with letters, digits and _", at=f"{at}.name")
    if kind is not None and not isinstance(kind, str):
        raise Invalid("a type is the name of a FHIR type", at=f"{at}.type")
    if not isinstance(collection, bool):
        raise Invalid("collection is true or false", at=f"{at}.collection")
    plain = kind.rpartition("/")[2] if kind else None
    return Column(name, plain, collection), _path(tree, "path", at)


def _path(tree: Mapping[str, Any], name: str, at: str) -> Path:
    return _compiled(tree.get(name), f"{at}.{name}")


def _compiled(text: Any, at: str) -> Path:
    if not isinstance(text, str):
        raise Invalid("a FHIRPath expression is wanted", at=at)
    try:
        return Path(fhirpath.compile(_TYPED_KEY.sub(r"getReferenceKey('\1')", text), _FUNCTIONS), at)
    except fhirpath.ExpressionError as error:
        raise Invalid(str(error), at=at) from error
    except TooMuch as error:
        raise TooMuch(str(error), at=at) from error


def _listed(tree: Mapping[str, Any], name: str, kind: type[T], at: str) -> Iterator[tuple[T, str]]:
    found = tree.get(name, [])
    if not isinstance(found, list):
        raise Invalid("a list is wanted", at=f"{at}.{name}")
    for number, one in enumerate(found):
        if not isinstance(one, kind):
            raise Invalid("this is not what the list holds", at=f"{at}.{name}[{number}]")
        yield one, f"{at}.{name}[{number}]"


def _constants(tree: Mapping[str, Any]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for one, at in _listed(tree, "constant", dict, "ViewDefinition"):
        name = one.get("name")
        values = [(key, value) for key, value in one.items() if key.startswith("value")]
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(values) != 1:
            raise Invalid("a constant has a name and one value", at=at)
        key, value = values[0]
        if isinstance(value, dict | list):
            raise Invalid("a constant is a primitive", at=f"{at}.{key}")
        kind = key.removeprefix("value")
        found[name] = root_item(value, kind[:1].lower() + kind[1:])
    return found


# -- running -----------------------------------------------------------------------------------------------------


def _columns(values: Sequence[tuple[Column, Path]]) -> Part:
    def row(scope: Scope) -> list[Row]:
        return [{column.name: _value(scope, column, path) for column, path in values}]

    return row


def _value(scope: Scope, column: Column, path: Path) -> Any:
    found = [_plain(item, path.at) for item in path.of(scope)]
    if column.collection:
        return found
    if len(found) > 1:
        raise Invalid(f"the column {column.name} has several values; say collection, or take the first", at=path.at)
    return found[0] if found else None


def _plain(item: Item, at: str) -> Any:
    if item.value is None or isinstance(item.value, str | int | float | Decimal | bool):
        return item.value
    if isinstance(item.value, Mapping | list):
        raise Invalid("a column holds primitives; name the element that is wanted of this one", at=at)
    return str(item.value)


def _product(parts: Sequence[Part]) -> Part:
    """Every row of one part beside every row of the others."""
    if len(parts) == 1:
        return parts[0]

    def rows(scope: Scope) -> list[Row]:
        made: list[Row] = [{}]
        for part in parts:
            own = part(scope)
            made = [{**left, **right} for left in made for right in own]
        return made

    return rows


def _union(parts: Sequence[Part]) -> Part:
    return lambda scope: [row for part in parts for row in part(scope)]


def _iterated(select: Mapping[str, Any], part: Part, columns: Sequence[Column], at: str) -> Part:
    """The part once for each element that is iterated, or once where none is asked for."""
    asked = [name for name in ("forEach", "forEachOrNull", "repeat") if name in select]
    if not asked:
        return part
    if len(asked) > 1:
        raise Invalid("a select iterates in one way", at=f"{at}.{asked[1]}")
    (name,) = asked
    if name == "repeat":
        paths = [_compiled(one, place) for one, place in _listed(select, name, str, at)]
        elements = _repeated(paths, f"{at}.repeat")
    else:
        path = _path(select, name, at)

        def elements(scope: Scope) -> list[Item]:
            return path.of(scope)

    def rows(scope: Scope) -> list[Row]:
        found = elements(scope)
        if not found and name == "forEachOrNull":
            return _without(part(scope.at(root_item({}, None), 0)), columns)
        return [row for index, item in enumerate(found) for row in part(scope.at(item, index))]

    return rows


def _without(made: list[Row], columns: Sequence[Column]) -> list[Row]:
    """The one row that stands for no element, whatever is iterated or united within."""
    return made if len(made) == 1 else [{one.name: [] if one.collection else None for one in columns}]


def _repeated(paths: Sequence[Path], at: str) -> Callable[[Scope], list[Item]]:
    """Every element the paths lead to, and from there again, each before what is below it."""

    def below(scope: Scope, item: Item) -> list[Item]:
        return [one for path in paths for one in path.of(scope.at(item, 0))]

    def found(scope: Scope) -> list[Item]:
        made: list[Item] = []
        waiting = below(scope, scope.item)[::-1]
        while waiting:
            made.append(waiting.pop())
            if len(made) > _REPEATED_MAX:
                raise Invalid(f"repeat reaches more than {_REPEATED_MAX} elements", at=at)
            waiting += reversed(below(scope, made[-1]))
        return made

    return found


def _holds(scope: Scope, path: Path) -> bool:
    found = path.of(scope)
    if not found:
        return False
    if len(found) > 1 or not isinstance(found[0].value, bool):
        raise Invalid("a where is true, false or empty", at=path.at)
    return found[0].value


def _resource_key(items: Sequence[Item], _: Sequence[Sequence[Item]]) -> list[Item]:
    return [
        computed(f"{item.value['resourceType']}/{item.value['id']}", "String")
        for item in items
        if isinstance(item.value, Mapping) and "id" in item.value and "resourceType" in item.value
    ]


def _reference_key(items: Sequence[Item], arguments: Sequence[Sequence[Item]]) -> list[Item]:
    wanted = arguments[0][0].value if arguments and arguments[0] else None
    found: list[Item] = []
    for item in items:
        text = item.value.get("reference") if isinstance(item.value, Mapping) else None
        parsed = parse_reference(text) if isinstance(text, str) else None
        if parsed is None or parsed.kind != "relative" or (wanted is not None and parsed.type != wanted):
            continue
        found.append(computed(f"{parsed.type}/{parsed.id}", "String"))
    return found


_KEYS: Final = {"getResourceKey": _resource_key, "getReferenceKey": _reference_key}
