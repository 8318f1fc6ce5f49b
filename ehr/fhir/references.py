"""References of a resource: found, taken apart, and rewritten.

In:      tree of a resource, or one reference text
Out:     FoundReference per Reference.reference with its FHIRPath; ParsedReference; a rewritten copy of the tree
Keeps:   rewrite changes whole values only, never a part of one, and nothing that is not a reference, uri, url, oid,
         uuid or a link of the narrative: an Identifier.value or a canonical equal to a key stays as it is
Source:  FHIR R4 2.3 references, 3.1.0.11.2 transaction processing rules (what a server must rewrite)
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ehr.fhir.r4 import TYPE_IDS

Kind = Literal["relative", "absolute", "contained", "urn", "conditional", "other"]

_ID: Final = r"[A-Za-z0-9\-.]{1,64}"
_LITERAL: Final = re.compile(
    rf"(?:(?P<base>https?://[^\s?#]+?)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>{_ID})(?:/_history/(?P<version>{_ID}))?(?:#.*)?"
)
_CONDITIONAL: Final = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?.+", re.DOTALL)
_NARRATIVE_LINK: Final = re.compile(r"""((?:href|src)\s*=\s*)(["'])(.*?)\2""", re.IGNORECASE | re.DOTALL)

LOCAL: Final = re.compile(rf"([A-Z][A-Za-z]+)/({_ID})(?:/_history/{_ID})?")
"""Type and id of a reference to what is here; in most texts nothing else is asked for."""

URNS: Final = ("urn:uuid:", "urn:oid:")
"""How references begin whose meaning is an entry of their Bundle."""
VERSION: Final = "/_history/"
"""Before the version of a reference."""

URI_ELEMENTS: Final = frozenset(
    """address authority authorizationUrl contentReference defaultValueOid defaultValueUri defaultValueUrl
    defaultValueUuid definition definitionUri derivedFromUri detail endpoint eventUri fixedOid fixedUri fixedUrl
    fixedUuid fullUrl identifier implicitRules instantiates instantiatesUri issuer jurisdiction link location
    moduleUri nameUrl onlineInformation patternOid patternUri patternUrl patternUuid policy property protocol
    reference relativePath rendering source sourceUri system target targetUri type uri url valueOid valueUri
    valueUrl valueUuid""".split()  # noqa: SIM905
)
"""Names of the R4 elements that may hold a reference text, uri, url, oid or uuid (StructureDefinitions)."""


@dataclass(frozen=True, slots=True)
class FoundReference:
    """One Reference.reference: its FHIRPath, its text, and the Reference that holds it (to change in place)."""

    path: str
    value: str
    container: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedReference:
    """A reference text taken apart.

    kind  relative     Patient/1, Patient/1/_history/2
          absolute     https://host/fhir/Patient/1 (base = https://host/fhir)
          contained    #p1 (id = p1)
          urn          urn:uuid:… or urn:oid:… (id = the part after it)
          conditional  Patient?identifier=…
          other        any other uri
    """

    kind: Kind
    type: str | None = None
    id: str | None = None
    version: str | None = None
    base: str | None = None


def parse(reference: str) -> ParsedReference:
    if reference.startswith("#"):
        return ParsedReference("contained", id=reference[1:])
    if reference.startswith(URNS):
        return ParsedReference("urn", id=reference.split(":", 2)[2])
    literal = _LITERAL.fullmatch(reference)
    if literal and literal["type"] in TYPE_IDS:
        kind: Kind = "absolute" if literal["base"] else "relative"
        return ParsedReference(kind, literal["type"], literal["id"], literal["version"], literal["base"])
    conditional = _CONDITIONAL.fullmatch(reference)
    if conditional and conditional["type"] in TYPE_IDS:
        return ParsedReference("conditional", conditional["type"])
    return ParsedReference("other")


def find(tree: Mapping[str, Any]) -> Iterator[FoundReference]:
    """Every Reference.reference, those of contained and bundled resources included, in the order of the text."""
    yield from _find(tree, str(tree.get("resourceType", "Resource")))


def _find(node: Mapping[str, Any], path: str) -> Iterator[FoundReference]:
    for name, value in node.items():
        if name == "reference" and isinstance(value, str):
            assert isinstance(node, dict)
            yield FoundReference(f"{path}.reference", value, node)
        elif isinstance(value, dict):
            yield from _find(value, f"{path}.{name}")
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _find(item, f"{path}.{name}[{position}]")


def outward(tree: Mapping[str, Any]) -> list[str]:
    """Every Reference.reference as find gives it, in no order and without its place: a fraction of the cost. Of a
    Bundle, those that do not name its own entries."""
    if tree.get("resourceType") == "Bundle":
        own = _own_names(tree)
        return [text for text in _texts(tree) if text.partition(VERSION)[0] not in own]
    return _texts(tree)


def _own_names(bundle: Mapping[str, Any]) -> set[str]:
    """What a Bundle calls its entries, those of Bundles within included: a reference means the nearest
    (bundle.html#references)."""
    own: set[str] = set()
    entries = bundle.get("entry")
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        if isinstance(name := entry.get("fullUrl"), str):
            parsed = parse(name)
            own |= {name, f"{parsed.type}/{parsed.id}"} if parsed.kind == "absolute" else {name}
        if isinstance(resource := entry.get("resource"), dict) and resource.get("resourceType") == "Bundle":
            own |= _own_names(resource)
    return own


def _texts(tree: Mapping[str, Any]) -> list[str]:
    found = []
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if node.__class__ is list:
            waiting += [item for item in node if item.__class__ is dict or item.__class__ is list]
            continue
        for name, value in node.items():
            kind = value.__class__
            if kind is str:
                if name == "reference":
                    found.append(value)
            elif kind is dict or kind is list:
                waiting.append(value)
    return found


def rewrite(tree: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """A copy of the tree in which values equal to a key of mapping are replaced; shares what did not change. A Bundle
    keeps the names of its own entries."""
    if tree.get("resourceType") == "Bundle":
        own = _own_names(tree)
        mapping = {text: meant for text, meant in mapping.items() if text.partition(VERSION)[0] not in own}
    return dict(_rewritten(tree, mapping))


def _rewritten(node: Mapping[str, Any], mapping: Mapping[str, str]) -> Mapping[str, Any]:
    """The node itself where nothing in it changes."""
    changed: dict[str, Any] | None = None
    new: Any
    for name, value in node.items():
        kind = value.__class__
        if kind is str:
            if name in URI_ELEMENTS:
                new = mapping.get(value, value)
            elif name == "div":
                new = _NARRATIVE_LINK.sub(lambda link: _link(link, mapping), value)
            else:
                continue
        elif kind is dict:
            new = _rewritten(value, mapping)
        elif kind is list:
            new = _rewritten_items(name, value, mapping)
        else:
            continue
        if new is not value:
            if changed is None:
                changed = dict(node)
            changed[name] = new
    return node if changed is None else changed


def _rewritten_items(name: str, items: list[Any], mapping: Mapping[str, str]) -> list[Any]:
    changed: list[Any] | None = None
    new: Any
    for position, item in enumerate(items):
        kind = item.__class__
        if kind is dict:
            new = _rewritten(item, mapping)
        elif kind is str and name in URI_ELEMENTS:
            new = mapping.get(item, item)
        elif kind is list:
            new = _rewritten_items(name, item, mapping)
        else:
            continue
        if new is not item:
            if changed is None:
                changed = list(items)
            changed[position] = new
    return items if changed is None else changed


def _link(link: re.Match[str], mapping: Mapping[str, str]) -> str:
    attribute, quote, target = link.groups()
    return f"{attribute}{quote}{mapping.get(target, target)}{quote}"
