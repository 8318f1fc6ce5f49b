"""What a FHIR server holds, and what every interaction does to it: a model that shares nothing with the server.

In:      an Ask: one request, or one entry of a Bundle
Out:     a Due: the status, and the version that the answer must show; Refused where nothing may change
Keeps:   an update that changes nothing is no version (docs/adr/0013); conditions mean one resource (docs/adr/0083)
Source:  FHIR R4 http.html; RFC 9110 13.1, 13.2
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

Tree = dict[str, Any]
Key = tuple[str, str]


class Refused(Exception):
    """Nothing is done. Several statuses where several things are wrong."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(statuses)
        self.statuses = statuses


@dataclass(frozen=True)
class Version:
    """tree has the id and no meta; None is a deletion. made: the first one, under an id the server chose.
    updated is what the server said of it."""

    number: int
    tree: Tree | None
    created: bool
    made: bool = False
    updated: str = ""

    @property
    def etag(self) -> str:
        return f'W/"{self.number}"'

    @property
    def body(self) -> Tree | None:
        """What a read shows."""
        if self.tree is None:
            return None
        meta = {"versionId": str(self.number), "lastUpdated": self.updated}
        return {"resourceType": self.tree["resourceType"], "id": self.tree["id"], "meta": meta} | self.tree


@dataclass(frozen=True)
class Ask:
    """One interaction. query: criteria, or those of a search. change: of a patch, element → value (None takes
    it out); by_path: said as a FHIRPath Patch that takes it out and adds it anew."""

    method: str
    type: str
    id: str | None = None
    query: str = ""
    vid: int | None = None
    tree: Tree | None = None
    change: tuple[str, Any] | None = None
    by_path: bool = False
    if_match: str | None = None
    if_none_match: str | None = None
    if_none_exist: str | None = None
    full_url: str | None = None

    @property
    def condition(self) -> str | None:
        """The criteria that say which resource is meant."""
        if self.method == "POST":
            return self.if_none_exist
        return self.query if self.id is None and self.method in ("PUT", "PATCH", "DELETE") else None

    @property
    def urns(self) -> set[str]:
        """What its resource refers to by a urn."""
        return set(re.findall(r"urn:uuid:[0-9a-f-]+", json.dumps(self.tree)))

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")


@dataclass(frozen=True)
class Due:
    """What must be answered. version: the one that the validators tell of; found: matches of a search, in no order."""

    status: int
    key: Key | None = None
    version: Version | None = None
    wrote: bool = False
    found: frozenset[Key] | None = None
    refused: tuple[int, ...] = ()


@dataclass
class State:
    """Every version of every resource, oldest first, and the order in which they were committed."""

    versions: dict[Key, list[Version]] = field(default_factory=dict)
    commits: list[list[Key]] = field(default_factory=list)
    looks: "State | None" = None

    def copy(self, looks: "State | None" = None) -> "State":
        """looks: where conditions are looked up, if not in the copy itself."""
        return State({key: list(held) for key, held in self.versions.items()}, list(self.commits), looks)

    def last(self, key: Key) -> Version | None:
        held = self.versions.get(key)
        return held[-1] if held else None

    def current(self, key: Key) -> Version | None:
        last = self.last(key)
        return last if last and last.tree is not None else None

    def standing(self, type: str) -> Iterator[tuple[Key, Tree]]:
        """What a search looks at."""
        for key in self.versions:
            version = self.current(key)
            if key[0] == type and version and version.tree:
                yield key, version.tree

    def matching(self, type: str, query: str) -> list[Key]:
        wanted = parse_qsl(query, keep_blank_values=True)
        return [key for key, tree in self.standing(type) if all(self._fits(tree, *one) for one in wanted)]

    def _fits(self, tree: Tree, name: str, text: str) -> bool:
        """Parameters that look at other resources too."""
        if name.startswith("_has:"):
            _, type, _, of_theirs = name.split(":")
            return any(
                self.refers_to(other, tree) and matches(other, of_theirs, text) for _, other in self.standing(type)
            )
        if name == "_lastUpdated":
            return _compares(self.versions[tree["resourceType"], tree["id"]][-1].updated, text)
        _, dot, of_theirs = name.partition(".")
        if not dot:
            return matches(tree, name, text)
        target = referred(tree)
        there = self.current(target) if target else None
        return there is not None and there.tree is not None and matches(there.tree, of_theirs, text)

    @staticmethod
    def refers_to(tree: Tree, other: Tree) -> bool:
        return referred(tree) == (other["resourceType"], other["id"])

    def write(self, key: Key, tree: Tree | None, *, made: bool = False) -> Version:
        last, created = self.last(key), tree is not None and self.current(key) is None
        version = Version(last.number + 1 if last else 1, tree, created, made)
        self.versions.setdefault(key, []).append(version)
        return version

    # ---- interactions

    def perform(self, ask: Ask, fresh: str) -> Due:
        """One interaction. fresh: the id of what the server makes, where it chooses."""
        match ask.method:
            case "POST":
                return self._create(ask, fresh)
            case "PUT":
                return self._update(ask, fresh)
            case "PATCH":
                return self._patch(ask)
            case "DELETE":
                return self._delete(ask)
            case _:
                return self._read(ask)

    def _create(self, ask: Ask, fresh: str) -> Due:
        if ask.if_none_exist is not None:
            found = self.only(ask.type, ask.if_none_exist)
            if found:
                return Due(200, found, self.current(found))
            refuse_unlike(ask)
        return self._store((ask.type, fresh), ask.tree or {}, fresh)

    def _update(self, ask: Ask, fresh: str) -> Due:
        assert ask.tree is not None
        id, sent = ask.id, ask.tree.get("id")
        if id is None:
            found = self.only(ask.type, ask.query)
            if found and sent not in (None, found[1]):
                raise Refused(400)
            if not found:
                refuse_unlike(ask, 412 if ask.if_match else 422)
                if sent and self.current((ask.type, sent)):
                    raise Refused(409, 412)
            id = found[1] if found else sent or fresh
        key = ask.type, id
        self._refuse_unmet(ask, key)
        if ask.if_none_match and self.current(key):
            raise Refused(412)
        return self._store(key, ask.tree, fresh)

    def _patch(self, ask: Ask) -> Due:
        assert ask.change is not None
        key = (ask.type, ask.id) if ask.id else self.only(ask.type, ask.query)
        stands = self.current(key) if key else None
        if key is None or stands is None:  # whatever If-Match says: RFC 9110 13.2.1
            raise Refused(410 if key and self.last(key) else 404)
        self._refuse_unmet(ask, key)
        name, value = ask.change
        tree = dict(stands.tree or {})
        if value is None or ask.by_path:
            tree.pop(name, None)
        if value is not None:
            tree[name] = value
        return self._store(key, tree)

    def _delete(self, ask: Ask) -> Due:
        key = (ask.type, ask.id) if ask.id else self.only(ask.type, ask.query)
        if key is None:
            if ask.if_match:
                raise Refused(412)
            return Due(204)
        self._refuse_unmet(ask, key)
        if self.current(key) is None:
            return Due(204, key, self.last(key))
        return Due(204, key, self.write(key, None), wrote=True)

    def _read(self, ask: Ask) -> Due:
        if ask.id is None:
            return Due(200, found=frozenset(self.matching(ask.type, ask.query)))
        key = ask.type, ask.id
        held = self.versions.get(key, [])
        if ask.vid is None:
            version = held[-1] if held else None
        else:
            version = held[ask.vid - 1] if 0 < ask.vid <= len(held) else None
        if version is None or version.tree is None:
            raise Refused(410 if version else 404)
        if ask.if_none_match and (ask.if_none_match == "*" or version.number in tags(ask.if_none_match)):
            return Due(304, key, version)
        return Due(200, key, version)

    def _store(self, key: Key, tree: Tree, fresh: str | None = None) -> Due:
        stands, tree = self.current(key), {"resourceType": key[0], "id": key[1]} | tree | {"id": key[1]}
        if stands and json.dumps(stands.tree) == json.dumps(tree):
            return Due(200, key, stands)
        return Due(200 if stands else 201, key, self.write(key, tree, made=key[1] == fresh), wrote=True)

    def only(self, type: str, query: str) -> Key | None:
        """The one match, or none."""
        found = (self.looks or self).matching(type, query)
        if len(found) > 1:
            raise Refused(412)
        return found[0] if found else None

    def _refuse_unmet(self, ask: Ask, key: Key) -> None:
        stands = self.current(key)
        if ask.if_match and (stands is None or (ask.if_match != "*" and stands.number not in tags(ask.if_match))):
            raise Refused(412)

    # ---- what the server said

    def settle(self, renamed: Mapping[str, str], told: Mapping[Key, str]) -> None:
        """Put the server's ids in place of ours, and its moments of what was just written."""
        self.versions = {
            (type, renamed.get(id, id)): [replace(one, tree=with_names(one.tree, renamed)) for one in held]
            for (type, id), held in self.versions.items()
        }
        for key, updated in told.items():
            self.versions[key][-1] = replace(self.versions[key][-1], updated=updated)
        if told:
            self.commits.append(list(told))


def with_names(value: Any, renamed: Mapping[str, str]) -> Any:
    """The same with the server's ids."""
    if not renamed:
        return value
    if isinstance(value, dict):
        return {name: with_names(one, renamed) for name, one in value.items()}
    if isinstance(value, list):
        return [with_names(one, renamed) for one in value]
    if not isinstance(value, str):
        return value
    type, slash, id = value.rpartition("/")
    return f"{type}{slash}{renamed.get(id, id)}"


def tags(header: str) -> set[int]:
    """The versions that entity tags name, weak or strong."""
    return {int(found) for found in re.findall(r'"([0-9]+)"', header)}


def refuse_unlike(ask: Ask, *more: int) -> None:
    """What is made because no identifier matches must have it."""
    wanted = identifier_of(ask.condition or "")
    if wanted and wanted not in identifiers(ask.tree or {}):
        raise Refused(422, *more)


def identifier_of(query: str) -> tuple[str, str] | None:
    """The one identifier that these criteria are."""
    pairs = parse_qsl(query)
    if len(pairs) != 1 or pairs[0][0] != "identifier" or "," in pairs[0][1]:
        return None
    system, _, value = pairs[0][1].partition("|")
    return (system, value) if value else None


def identifiers(tree: Tree) -> set[tuple[str, str]]:
    return {(one["system"], one["value"]) for one in tree.get("identifier", ())}


def matches(tree: Tree, name: str, text: str) -> bool:
    """Whether a resource matches a parameter: any of its values."""
    return any(_matches(tree, name, value) for value in text.split(","))


def _compares(moment: str, text: str) -> bool:
    """A moment against a prefix and another one, both to the millisecond."""
    at = text.lstrip("abcdefghijklmnopqrstuvwxyz")
    match text.removesuffix(at):
        case "ge":
            return moment >= at
        case "le":
            return moment <= at
        case "gt" | "sa":
            return moment > at
        case "lt" | "eb":
            return moment < at
        case "ne":
            return moment != at
        case _:
            return moment == at


def _matches(tree: Tree, name: str, value: str) -> bool:
    match name:
        case "_id":
            return bool(tree["id"] == value)
        case "identifier":
            system, _, number = value.partition("|")
            return any(s == system and number in ("", n) for s, n in identifiers(tree))
        case "family":
            return any(one["family"].lower().startswith(value.lower()) for one in tree.get("name", ()))
        case "gender" | "status":
            return bool(tree.get(name) == value)
        case "active":
            return tree.get("active") is (value == "true")
        case "birthdate":
            born, low = tree.get("birthDate", ""), value.removeprefix("ge")
            return bool(born and (born >= low if low != value else born == value))
        case "birthdate:missing" | "organization:missing":
            element = {"birthdate": "birthDate", "organization": "managingOrganization"}[name.partition(":")[0]]
            return (element not in tree) is (value == "true")
        case "subject" | "patient" | "organization":
            element = "managingOrganization" if name == "organization" else "subject"
            return bool(tree.get(element, {}).get("reference") == value)
        case _:
            raise AssertionError(f"the model knows no {name}")


REFERENCES: Mapping[str, tuple[str, str]] = {
    "Observation": ("subject", "Patient"),
    "Patient": ("managingOrganization", "Organization"),
}
"""Type → its one reference, and what it refers to."""


def referred(tree: Tree) -> Key | None:
    """What the resource refers to."""
    element, _ = REFERENCES.get(tree["resourceType"], ("", ""))
    text = tree.get(element, {}).get("reference", "")
    type, _, id = text.partition("/")
    return (type, id) if id else None
