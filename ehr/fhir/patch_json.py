"""JSON Patch: a list of operations on a tree, all of them or none.

In:      the parsed array; the tree of a resource
Out:     JsonPatch: tree → a new tree; what it was given stays as it is
Keeps:   every Decimal with its digits; `test` compares numbers by value, and true is not 1
Empties: an object or array from which the patch took the last member goes too, for FHIR JSON has no empty ones
Errors:  Malformed  not a JSON Patch; names the operation: patch[2].path
         Invalid    an operation that cannot be done on this resource, a test that fails; names the element
         TooMuch    more operations, or more copied, than a resource can need
Source:  RFC 6902, RFC 6901; FHIR R4 http.html#patch ("test" that fails is 422)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from ehr import limits
from ehr.errors import Invalid, Malformed, TooMuch
from ehr.fhir import codec, references

Pointer = tuple[str, ...]
"""The tokens of a JSON Pointer, unescaped; () is the whole resource."""

_NEEDS: Final = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}
_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_NAME: Final = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; number counts from 0, source is the `from` of a move or copy."""

    number: int
    name: str
    path: Pointer
    source: Pointer = ()
    value: Any = None

    def refused(self, tree: Mapping[str, Any], pointer: Pointer, reason: str) -> Invalid:
        return Invalid(f"patch[{self.number}], {self.name}: {reason}", at=expression(tree, pointer))


@dataclass(frozen=True, slots=True)
class JsonPatch:
    operations: tuple[Operation, ...]

    @property
    def content(self) -> dict[str, Any]:
        """What of it may hold references: each value under the name it gets."""
        return {"patch": [{_name(one.path): one.value} for one in self.operations]}

    def rewritten(self, mapping: Mapping[str, str]) -> "JsonPatch":
        new = [references.rewrite({_name(one.path): one.value}, mapping) for one in self.operations]
        changed = zip(self.operations, new, strict=True)
        return JsonPatch(tuple(replace(one, value=value[_name(one.path)]) for one, value in changed))

    def __call__(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        changing = _Changing(tree)
        for one in self.operations:
            changing.do(one)
        return changing.done()


def read(items: Sequence[Any]) -> JsonPatch:
    """The operations, checked for form."""
    if len(items) > limits.patch_operations_max:
        raise TooMuch(f"a patch has at most {limits.patch_operations_max} operations", at="patch")
    return JsonPatch(tuple(_operation(number, item) for number, item in enumerate(items)))


def expression(tree: Mapping[str, Any], pointer: Pointer) -> str:
    """/name/0/family → Patient.name[0].family, as far as its tokens are names and indexes."""
    path = str(tree.get("resourceType", "Resource"))
    for token in pointer:
        if _INDEX.fullmatch(token):
            path += f"[{token}]"
        elif _NAME.fullmatch(token):
            path += f".{token}"
        else:
            break
    return path


def _name(pointer: Pointer) -> str:
    """The name of the element a pointer leads to: the last token that is no place in a list."""
    return next((one for one in reversed(pointer) if one != "-" and not _INDEX.fullmatch(one)), "")


def _operation(number: int, item: Any) -> Operation:
    at = f"patch[{number}]"
    if not isinstance(item, dict):
        raise Malformed("an operation of a JSON Patch is an object", at=at)
    name = item.get("op")
    if not isinstance(name, str) or name not in _NEEDS:
        raise Malformed(f"op is one of {', '.join(_NEEDS)}", at=f"{at}.op")
    for needed in _NEEDS[name]:
        if needed not in item:
            raise Malformed(f"{name} has a {needed}", at=f"{at}.{needed}")
    path = _pointer(item.get("path"), f"{at}.path")
    source = _pointer(item["from"], f"{at}.from") if "from" in _NEEDS[name] else ()
    if name == "move" and len(path) > len(source) and path[: len(source)] == source:
        raise Malformed("nothing is moved into itself", at=f"{at}.path")
    return Operation(number, name, path, source, item.get("value"))


def _pointer(text: Any, at: str) -> Pointer:
    if not isinstance(text, str) or not _POINTER.fullmatch(text):
        raise Malformed("a JSON Pointer is wanted, as in /name/0/family", at=at)
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


class _Changing:
    """A copy of the tree while operations are done on it. The resource is the member "" of a root of its own."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._before = tree
        self._root: dict[str, Any] = {"": codec.copied(tree)}
        self._emptied: list[Any] = []
        self._copied_bytes = 0

    def do(self, one: Operation) -> None:
        match one.name:
            case "add":
                self._add(one, codec.copied(one.value))
            case "remove":
                self._take(one, one.path)
            case "replace":
                holder, key = self._there(one, one.path)
                self._refuse_deep(one, one.value)
                holder[key] = codec.copied(one.value)
            case "move":
                self._add(one, self._take(one, one.source))
            case "copy":
                holder, key = self._there(one, one.source)
                self._count(one, holder[key])
                self._add(one, codec.copied(holder[key]))
            case _:
                holder, key = self._there(one, one.path)
                if not equal(holder[key], one.value):
                    raise one.refused(self._before, one.path, "the value is another one")

    def done(self) -> dict[str, Any]:
        if self._emptied:
            _prune(self._root, {id(one) for one in self._emptied})
        tree = self._root.get("")
        if not isinstance(tree, dict):
            raise Invalid("a patch leaves a resource", at=expression(self._before, ()))
        return tree

    def _holder(self, one: Operation, pointer: Pointer) -> Any:
        """The object or array in which the last token of a pointer is looked up."""
        node: Any = self._root
        for depth, token in enumerate(("", *pointer)[:-1] if pointer else ()):
            node = _child(node, token)
            if not isinstance(node, (dict, list)):
                wants_list = one.name == "add" and depth == len(pointer) - 1 and _is_place(pointer[-1])
                why = "there is no such list; add it whole, as an array" if wants_list else "there is no such element"
                raise one.refused(self._before, pointer[:depth], why)
        return node

    def _there(self, one: Operation, pointer: Pointer) -> tuple[Any, Any]:
        """Where the value of a pointer is: what holds it, and under which key."""
        holder, token = self._holder(one, pointer), ("", *pointer)[-1]
        if _child(holder, token) is _ABSENT:
            raise one.refused(self._before, pointer, "there is no such element")
        return holder, int(token) if isinstance(holder, list) else token

    def _take(self, one: Operation, pointer: Pointer) -> Any:
        holder, key = self._there(one, pointer)
        value = holder.pop(key)
        if not holder:
            self._emptied.append(holder)
        return value

    def _add(self, one: Operation, value: Any) -> None:
        self._refuse_deep(one, value)
        holder, last = self._holder(one, one.path), ("", *one.path)[-1]
        if isinstance(holder, dict):
            holder[last] = value
        elif last == "-":
            holder.append(value)
        elif _INDEX.fullmatch(last) and int(last) <= len(holder):
            holder.insert(int(last), value)
        else:
            raise one.refused(self._before, one.path, "the list has no such place")

    def _refuse_deep(self, one: Operation, value: Any) -> None:
        if len(one.path) + _depth(value) > limits.json_depth_max:
            raise TooMuch(f"nested deeper than {limits.json_depth_max}", at=expression(self._before, one.path))

    def _count(self, one: Operation, value: Any) -> None:
        """Copies of copies double what is there each time."""
        self._copied_bytes += len(codec.dumps(value))
        if self._copied_bytes > limits.resource_bytes_max:
            raise TooMuch("the patch copies more than a resource may hold", at=expression(self._before, one.path))


_ABSENT: Final = object()


def _is_place(last: str) -> bool:
    """Whether a part of a pointer is a place in a list."""
    return last == "-" or _INDEX.fullmatch(last) is not None


def _child(node: Any, token: str) -> Any:
    if isinstance(node, dict):
        return node.get(token, _ABSENT)
    if isinstance(node, list) and _INDEX.fullmatch(token) and int(token) < len(node):
        return node[int(token)]
    return _ABSENT


def _depth(node: Any) -> int:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return 1 + max(map(_depth, below), default=0) if isinstance(node, (dict, list)) else 0


def _prune(node: Any, emptied: set[int]) -> bool:
    """Whether a node is empty because the patch, or this, took its last member."""
    took = id(node) in emptied
    if isinstance(node, dict):
        for name in [name for name, value in node.items() if _prune(value, emptied)]:
            del node[name]
            took = True
    elif isinstance(node, list):
        kept = [item for item in node if not _prune(item, emptied)]
        took = took or len(kept) < len(node)
        node[:] = kept
    else:
        return False
    return took and not node


def equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: numbers by value, objects whatever the order of their members."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, (int, Decimal)) and isinstance(other, (int, Decimal)):
        return one == other
    return type(one) is type(other) and bool(one == other)
