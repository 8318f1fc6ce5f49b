"""FHIRPath Patch: a Parameters resource of operations on elements, all of them or none.

In:      the tree of the Parameters; the tree of a resource
Out:     FhirPathPatch: tree → a new tree; what it was given stays as it is
Paths:   FHIRPath, evaluated anew for each operation on what the ones before it left; a member that its type does not
         have is an error. delete of nothing changes nothing, every other path must find its element
Lists:   insert and move name a whole list. What holds nothing any more goes too, and what JSON keeps of a primitive
         under `_name` moves with it
Errors:  those of ehr.fhir.patch_operation, which reads the Parameters
         Invalid    an operation that cannot be done on this resource; names the element
         TooMuch    more time for their paths than a resource can need
Source:  FHIR R4 fhirpatch.html, http.html#patch
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ehr import limits
from ehr.clock import SystemClock
from ehr.errors import Invalid, TooMuch
from ehr.fhir import codec, fhirpath, references
from ehr.fhir.fhirpath import Environment, Item
from ehr.fhir.fhirpath.items import Field, fields
from ehr.fhir.patch_operation import Operation, named, operations_of, value_of
from ehr.fhir.structure import PRIMITIVES

_STRICT: Final = Environment(is_strict=True)


@dataclass(frozen=True, slots=True)
class FhirPathPatch:
    operations: tuple[Operation, ...]

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        changing = _Changing(tree)
        clock = SystemClock()
        until_s = clock.monotonic_s() + limits.patch_evaluation_s
        for one in self.operations:
            if clock.monotonic_s() > until_s:
                raise TooMuch(f"the paths of a patch take at most {limits.patch_evaluation_s:g} seconds", at=one.at)
            changing.do(one)
        return changing.tree

    @property
    def content(self) -> dict[str, Any]:
        """What of it may hold references: each value under the name it gets."""
        return {"patch": [{one.element: one.value.json} for one in self.operations if one.value]}

    def rewritten(self, mapping: Mapping[str, str]) -> "FhirPathPatch":
        return FhirPathPatch(tuple(_rewritten(one, mapping) for one in self.operations))


def _rewritten(one: Operation, mapping: Mapping[str, str]) -> Operation:
    if one.value is None:
        return one
    new = references.rewrite({one.element: one.value.json}, mapping)
    return replace(one, value=replace(one.value, json=new[one.element]))


def read(parameters: Mapping[str, Any]) -> FhirPathPatch:
    return FhirPathPatch(operations_of(parameters))


class _Changing:
    """A copy of the tree while operations are done on it."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self.tree: dict[str, Any] = codec.copied(tree)

    def do(self, one: Operation) -> None:
        try:
            items = fhirpath.compile(one.path).evaluate(self.tree, environment=_STRICT)
        except fhirpath.ExpressionError as error:
            raise Invalid(str(error), at=f"{one.at}.part") from error
        for item in items:
            if not self._is_here(item):
                raise one.refused("the path leads out of the resource")
        match one.type:
            case "add":
                self._add(one, _single(one, items))
            case "insert":
                holder, field = _list_of(one, items)
                if not 0 <= one.index <= len(items):
                    raise one.refused(f"the list has {len(items)} elements", items[0])
                _each(holder, field.name, len(items), lambda a, value: a.insert(one.index, value), _json(one, field))
            case "delete":
                if items:
                    self._delete(one, _single(one, items))
            case "replace":
                self._replace(one, _single(one, items))
            case _:
                holder, field = _list_of(one, items)
                if not (0 <= one.source < len(items) and 0 <= one.destination < len(items)):
                    raise one.refused(f"the list has {len(items)} elements", items[0])
                _each(holder, field.name, len(items), lambda a, _: a.insert(one.destination, a.pop(one.source)), None)

    def _is_here(self, item: Item) -> bool:
        while item.parent is not None:
            item = item.parent
        return item.value is self.tree

    def _add(self, one: Operation, item: Item) -> None:
        field = _field(one, item, one.name)
        value = _json(one, field)
        holder = _members_of(item)
        if field.is_list:
            held = holder.setdefault(field.name, [])
            held.append(value)
            if f"_{field.name}" in holder:
                _pad(holder[f"_{field.name}"], len(held))
            return
        if any(name in holder or f"_{name}" in holder for name in _names(item, field.element)):
            raise one.refused(f"{field.element} is there already; replace it", item)
        holder[field.name] = value

    def _replace(self, one: Operation, item: Item) -> None:
        if item.parent is None:
            raise one.refused("the resource itself is replaced by an update", item)
        field = _field(one, item.parent, item.element)
        value, holder = _json(one, field), _holder(item)
        extras = holder.get(f"_{item.name}")
        if item.index is not None:
            _pad(holder.setdefault(item.name, []), item.index + 1)  # it may have had extensions only
            holder[item.name][item.index] = value
            if isinstance(extras, list):
                extras[item.index : item.index + 1] = [None]
                _drop_empty(holder, f"_{item.name}")
            return
        held = dict(holder)
        held.pop(f"_{item.name}", None)
        holder.clear()
        for name, kept in held.items():  # another type of a choice takes the place of the first
            holder[field.name if name == item.name else name] = value if name == item.name else kept
        holder.setdefault(field.name, value)

    def _delete(self, one: Operation, item: Item) -> None:
        if item.parent is None:
            raise one.refused("the resource itself is removed by a delete", item)
        holder = _holder(item)
        for name in (item.name, f"_{item.name}"):
            if item.index is None:
                holder.pop(name, None)
            elif isinstance(holder.get(name), list):
                del holder[name][item.index : item.index + 1]
                _drop_empty(holder, name)
        if not holder and item.parent.parent is not None:
            self._delete_emptied(one, item.parent)

    def _delete_emptied(self, one: Operation, item: Item) -> None:
        """An element that lost its last member; of a primitive, whose value is still there, only its extensions."""
        if item.type not in PRIMITIVES:
            self._delete(one, item)
            return
        holder, name = _holder(item), f"_{item.name}"
        if item.index is None:
            holder.pop(name, None)
        else:
            holder[name][item.index] = None
            _drop_empty(holder, name)


def _single(one: Operation, items: Sequence[Item]) -> Item:
    if len(items) != 1:
        raise one.refused(f"the path finds {len(items) or 'no'} element{'s' if len(items) > 1 else ''}; it must be one")
    return items[0]


def _list_of(one: Operation, items: Sequence[Item]) -> tuple[dict[str, Any], Field]:
    """What holds the list that these items are, and its field."""
    if not items:
        raise one.refused("the path finds no list; add begins one")
    first = items[0]
    if first.parent is None or first.index is None:
        raise one.refused("the path finds no list", first)
    holder = _holder(first)
    size = max(len(holder.get(name) or ()) for name in (first.name, f"_{first.name}"))
    if [item.index for item in items] != list(range(size)) or any(_holder(item) is not holder for item in items):
        raise one.refused("the path must find one whole list", first)
    return holder, _field(one, first.parent, first.element)


def _holder(item: Item) -> dict[str, Any]:
    """The JSON object an item is a member of."""
    assert item.parent is not None, "the root was refused"
    return _members_of(item.parent)


def _members_of(item: Item) -> dict[str, Any]:
    """The JSON object that holds the members of an item; of a primitive, what stands under `_name`, made if need be."""
    if item.type not in PRIMITIVES:
        found: dict[str, Any] = item.value
        return found
    holder, name = _holder(item), f"_{item.name}"
    if item.index is None:
        extra: dict[str, Any] = holder.setdefault(name, {})
        return extra
    extras = holder.setdefault(name, [])
    _pad(extras, max(item.index + 1, len(holder.get(item.name) or ())))
    if extras[item.index] is None:
        extras[item.index] = {}
    made: dict[str, Any] = extras[item.index]
    return made


def _each(holder: dict[str, Any], name: str, size: int, change: Any, value: Any) -> None:
    """Change a list and, where its primitives have extensions, the list beside it alike."""
    for one, new in ((name, value), (f"_{name}", None)):
        if isinstance(holder.get(one), list):
            _pad(holder[one], size)
            change(holder[one], new)


def _pad(held: list[Any], size: int) -> None:
    held += [None] * (size - len(held))


def _drop_empty(holder: dict[str, Any], name: str) -> None:
    if all(one is None for one in holder[name]):
        del holder[name]


def _names(item: Item, element: str) -> list[str]:
    return [field.name for field in (fields(item.type or "") or {}).get(element, ())]


def _field(one: Operation, item: Item, name: str) -> Field:
    """The field of an element that a value of this kind goes into; of a choice, the one of its type."""
    known = fields(item.type or "") or {}
    element = name if name in known else next((e for e, fs in known.items() if any(f.name == name for f in fs)), name)
    found = known.get(element, ())
    if not found:
        raise one.refused(f"{item.type or 'this'} has no such element", item)
    if len(found) == 1 or one.value is None:
        return found[0]
    for field in found:
        if field.type[0].upper() + field.type[1:] == one.value.kind:
            return field
    raise one.refused(f"{element} has no value{one.value.kind}", item)


def _json(one: Operation, field: Field) -> Any:
    """The value as JSON of this field."""
    value = one.value
    assert value is not None, "the operations that bring a value have one"
    if value.kind == "part":
        if field.is_primitive:
            raise one.refused(f"{field.element} is a value{field.type[0].upper()}{field.type[1:]}")
        return _object(one, field.type, value.json)
    if value.kind != "resource" and value.is_primitive != field.is_primitive:
        raise one.refused(f"{field.element} is no value{value.kind}")
    return codec.copied(value.json)


def _object(one: Operation, type_name: str, parts: Any) -> dict[str, Any]:
    """An element without a type of its own: its members are parts, each under its name."""
    made: dict[str, Any] = {}
    for part in named(f"{one.at}.part", parts):
        name = part["name"]
        inner = replace(one, value=value_of(f"{one.at}.part", part))
        field = _field(inner, Item({}, type_name), name)
        if field.is_list:
            made.setdefault(field.name, []).append(_json(inner, field))
        else:
            made[field.name] = _json(inner, field)
    return made
