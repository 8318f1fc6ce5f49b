"""Collect resources into one transaction Bundle whose every entry finds its own earlier version.

In:      resources as trees, each with the identifier that makes it itself within the facility
Out:     Bundle type=transaction; PUT Type?identifier=… for what a message states anew, POST with ifNoneExist for what
         it only mentions; references are urn:uuid of the Bundle
Why:     a feed repeats itself, so nothing may be created twice; and messages come out of order, so a mention must be
         able to stand before the statement.
Source:  FHIR R4 3.1.0.11 (transactions), 3.1.0.7.1 (conditional references and updates)
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID, uuid5

from adapters.port import Bundle, Origin
from adapters.systems import MESSAGE_TIME, STATE_TIME

NAMESPACE: Final = UUID("8f8f2b0e-59d1-5d0f-9d5c-2b6a1f3f6c11")
"""Of the urn:uuid names inside our Bundles; they never leave the transaction."""

ERASES: Final = "urn:city-ehr:extension:erases"
"""On Bundle.entry between mapper and pipeline: the name of an element to be removed from the earlier version."""

DEFERS: Final = "urn:city-ehr:extension:defers"
"""Likewise: the name of an element that an earlier version keeps."""

Tree = dict[str, Any]


def digest(*parts: str) -> str:
    """A short name for what has none of its own; equal parts, equal name."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


def criteria(system: str, value: str) -> str:
    """The search that finds one identifier; value escaped for search (3.1.1.1 escaping) and for a URL."""
    for special in ("\\", "$", ",", "|"):
        value = value.replace(special, "\\" + special)
    return "identifier=" + quote(system + "|" + value, safe=":/")


@dataclass(slots=True)
class Draft:
    """The Bundle being written."""

    origin: Origin
    message_time: str | None = None
    _entries: dict[tuple[str, str, str], Tree] = field(default_factory=dict)
    _by_url: dict[str, Tree] = field(default_factory=dict)

    def state(self, resource: Tree, system: str, value: str) -> str:
        """Write this version of a resource (conditional update); answers its reference."""
        return self._add("PUT", resource, system, value)

    def mention(self, resource: Tree, system: str, value: str) -> str:
        """Make sure a resource exists (conditional create), and leave it alone where it does."""
        return self._add("POST", resource, system, value)

    def _add(self, method: str, resource: Tree, system: str, value: str) -> str:
        type_name = resource["resourceType"]
        key = (type_name, system, value)
        known = self._entries.get(key)
        if known is not None:
            if method == "PUT" and known["request"]["method"] == "POST":
                known["resource"] = self._stamped(resource)
                known["request"] = self._request(method, type_name, system, value)
            return str(known["fullUrl"])
        url = "urn:uuid:" + str(uuid5(NAMESPACE, "\x1f".join((self.origin.facility_code, *key))))
        self._entries[key] = self._by_url[url] = {
            "fullUrl": url,
            "resource": self._stamped(resource),
            "request": self._request(method, type_name, system, value),
        }
        return url

    def _stamped(self, resource: Tree) -> Tree:
        if self.message_time is None:
            return resource
        stamp = {"extension": [{"url": MESSAGE_TIME, "valueDateTime": self.message_time}]}
        return {"resourceType": resource["resourceType"], "meta": stamp, **resource}

    @staticmethod
    def _request(method: str, type_name: str, system: str, value: str) -> Tree:
        if method == "PUT":
            return {"method": "PUT", "url": type_name + "?" + criteria(system, value)}
        return {"method": "POST", "url": type_name, "ifNoneExist": criteria(system, value)}

    def erase(self, url: str, names: list[str]) -> None:
        """Say that elements the earlier version may have are to go: the sender stated that there is none."""
        self._note(url, ERASES, names)

    def defer(self, url: str, names: list[str]) -> None:
        """Say that elements are only our default: an earlier version that has them keeps its own."""
        self._note(url, DEFERS, names)

    def _note(self, url: str, kind: str, names: list[str]) -> None:
        if names:
            entry = self._by_url[url]
            entry.setdefault("extension", []).extend({"url": kind, "valueString": name} for name in names)

    def states(self, type_name: str, system: str, value: str) -> bool:
        """Whether this is written already."""
        known = self._entries.get((type_name, system, value))
        return known is not None and known["request"]["method"] == "PUT"

    def state_moment(self, url: str) -> None:
        """Say that the status of a visit is stated by this message, and not assumed."""
        if self.message_time is not None:
            stamp = {"url": STATE_TIME, "valueDateTime": self.message_time}
            self.get(url)["meta"]["extension"].append(stamp)

    def get(self, url: str) -> Tree:
        """The resource behind one of our references, to be completed."""
        resource: Tree = self._by_url[url]["resource"]
        return resource

    def __len__(self) -> int:
        return len(self._entries)

    def bundle(self) -> Bundle:
        return {"resourceType": "Bundle", "type": "transaction", "entry": list(self._entries.values())}
