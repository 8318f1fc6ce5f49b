"""search_parameters.json → Parameter objects, and the walk along their JSON paths.

Out:     of(type_name)      code → Parameter of one resource type, the common ones (_id, _tag …) included
         Parameters         the same with those that an installation has added (ehr.fhir.declared)
         walk(tree, path)   the element values one path reaches, in document order
Why:     extraction, compartments and includes must read the same elements; they all read this table
Source:  FHIR R4 3.1.1 search; the paths are resolved by ehr/fhir/r4/compile_search.py, which explains their grammar
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from ehr.fhir.r4 import TYPE_IDS

TABLE: Final = Path(__file__).parent / "r4" / "search_parameters.json"

COMMON: Final = "Resource"
"""The type name under which parameters of every resource are listed."""

ADDED_FROM: Final = 1_000_000
"""Ids of the parameters an installation adds; below are R4's own."""

_STEP: Final = re.compile(r"(?P<name>\w+)(?P<many>\[\])?(?P<first>\[0\])?(?:\{(?P<key>\w+)=(?P<value>[^}]*)\})?")


@dataclass(frozen=True, slots=True)
class Step:
    """One member name; many: a list; first: only its first entry; where: only entries whose member equals a text."""

    name: str
    many: bool = False
    first: bool = False
    where: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ElementPath:
    """Steps from the resource (or a composite's base) to an element of one static type.

    only     for references: the resource type they must point to, or None
    at_root  for components: starts at the resource instead of the composite's base
    """

    steps: tuple[Step, ...]
    type: str
    only: str | None = None
    at_root: bool = False


@dataclass(frozen=True, slots=True)
class Component:
    """One part of a composite: the parameter it repeats, and where it lies from the base."""

    code: str
    kind: str
    paths: tuple[ElementPath, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type.

    id          permanent; part of every hash and the key of every side-table row
    paths       empty where nothing is indexed (_content, _query)
    targets     types a reference may point to; {"*"}: any
    systems     implied code systems of elements of type code
    slot        permanent number of a stored reference within its type, 1 to 255 (ehr.index.hashing)
    union       codes of the parameters that store this one's values; an OR of them answers it
    bases       composites: where the components are read from ("" steps: the resource itself)
    url         of the SearchParameter that declares it
    """

    id: int
    type_name: str
    code: str
    kind: str
    paths: tuple[ElementPath, ...] = ()
    targets: frozenset[str] = frozenset()
    systems: frozenset[str] = frozenset()
    slot: int = 0
    union: tuple[str, ...] = ()
    bases: tuple[tuple[Step, ...], ...] = ()
    components: tuple[Component, ...] = ()
    url: str = ""

    @property
    def added(self) -> bool:
        """Declared by a SearchParameter of this installation."""
        return self.id >= ADDED_FROM

    @property
    def is_one_element(self) -> bool:
        """A composite whose base occurs once: an AND of its components says the same."""
        return len(self.bases) == 1 and not any(step.many for step in self.bases[0])

    @property
    def is_paired(self) -> bool:
        """A composite over a repeating element needs entries of its own; over one element an AND is exact."""
        if self.kind != "composite" or self.union or len(self.components) != 2:
            return False
        if len(self.bases) != 1 or self.is_one_element:
            return False
        kinds = tuple(part.kind for part in self.components)
        return kinds in {("token", "token"), ("token", "quantity"), ("reference", "token")} and not any(
            path.at_root for part in self.components for path in part.paths
        )

    @property
    def is_spanned(self) -> bool:
        """A composite of a token of the resource, and two whole numbers of one of its repeating elements."""
        kinds = tuple(part.kind for part in self.components)
        if kinds != ("token", "number", "number") or len(self.bases) != 1 or self.is_one_element:
            return False
        paths = [[(path.type, path.at_root) for path in part.paths] for part in self.components]
        return all(len(one) == 1 for one in paths) and paths[0][0][1] and paths[1:] == [[("integer", False)]] * 2

    @property
    def only(self) -> str | None:
        """The one type a filtered reference (patient of subject) points to."""
        found = {path.only for path in self.paths}
        return found.pop() if len(found) == 1 else None

    def may_target(self, type_name: str) -> bool:
        return type_name in self.targets or "*" in self.targets


class Parameters:
    """The parameters of every type: R4's own, and those an installation has added.

    waiting  (type, code) of a declared one → why it cannot be asked for yet
    """

    def __init__(
        self, added: Iterable[Parameter] = (), waiting: Mapping[tuple[str, str], str] = MappingProxyType({})
    ) -> None:
        self.waiting = waiting
        self._added: dict[str, dict[str, Parameter]] = {}
        for parameter in added:
            self._added.setdefault(parameter.type_name, {})[parameter.code] = parameter
        self._of: dict[str, Mapping[str, Parameter]] = {}

    def of(self, type_name: str) -> Mapping[str, Parameter]:
        """Every parameter of a resource type by its code; "Resource" gives the common ones alone."""
        found = self._of.get(type_name)
        if found is None:
            found = self._of[type_name] = self._made(type_name)
        return found

    @property
    def adds(self) -> bool:
        """There is any beside R4's own."""
        return bool(self._added)

    def added_to(self, type_name: str) -> Mapping[str, Parameter]:
        """What of() holds beside R4's own."""
        return {**self._added.get(COMMON, {}), **self._added.get(type_name, {})}

    def _made(self, type_name: str) -> Mapping[str, Parameter]:
        assert type_name == COMMON or type_name in TYPE_IDS, type_name
        own = _table().get(type_name, {})
        return MappingProxyType({**_table()[COMMON], **own, **self.added_to(type_name)})


R4: Final = Parameters()


def of(type_name: str) -> Mapping[str, Parameter]:
    """R4's own parameters of a resource type."""
    return R4.of(type_name)


@cache
def _table() -> Mapping[str, Mapping[str, Parameter]]:
    table: dict[str, dict[str, Parameter]] = {}
    for entry in json.loads(TABLE.read_bytes())["parameters"]:
        table.setdefault(entry["type"], {})[entry["code"]] = parameter_of(entry)
    return table


def parameter_of(entry: Mapping[str, Any]) -> Parameter:
    """An entry of the table, or one like it."""
    return Parameter(
        id=entry["id"],
        type_name=entry["type"],
        code=entry["code"],
        kind=entry["kind"],
        paths=tuple(element_path(text) for text in entry.get("paths", ())),
        targets=frozenset(entry.get("targets", ())),
        systems=frozenset(entry.get("systems", ())),
        slot=entry.get("slot", 0),
        union=tuple(entry.get("union", ())),
        bases=tuple(steps(text) for text in entry.get("bases", ())),
        components=tuple(
            Component(part["code"], part["kind"], tuple(element_path(text) for text in part["paths"]))
            for part in entry.get("components", ())
        ),
        url=entry.get("url", ""),
    )


def element_path(text: str) -> ElementPath:
    """ "subject{is Patient}:Reference" → ElementPath."""
    where, _, type_name = text.rpartition(":")
    at_root = where.startswith("%")
    where, _, only = where.removeprefix("%").partition("{is ")
    return ElementPath(steps(where), type_name, only.removesuffix("}") or None, at_root)


def steps(text: str) -> tuple[Step, ...]:
    made = []
    for found in _STEP.finditer(text):
        where = (found["key"], found["value"]) if found["key"] else None
        made.append(Step(found["name"], bool(found["many"]), bool(found["first"]), where))
    return tuple(made)


def walk(tree: Any, path: tuple[Step, ...]) -> Iterator[Any]:
    """Values at a path. What has an unexpected shape is passed over: the validator refuses it, not the index."""
    if not path:
        yield tree
        return
    if not isinstance(tree, Mapping):
        return
    step, rest = path[0], path[1:]
    value = tree.get(step.name)
    if value is None:
        return
    values = value if isinstance(value, list) else [value]
    for item in values[:1] if step.first else values:
        if step.where and not (isinstance(item, Mapping) and item.get(step.where[0]) == step.where[1]):
            continue
        yield from walk(item, rest)
