"""FHIR XML → FHIR JSON, with every digit and every character as it was sent.

In:      bytes of one resource in XML
Out:     bytes of the same resource in JSON, for the one gate to judge (ehr.store.gate)
Errors:  Malformed        no XML, or a DOCTYPE
         InvalidResource  no FHIR: every element that cannot be read, with its path and line
         TooMuch    over bytes_max
Why:     No DTD, no entity and no network: nothing in a document can make the reader fetch or grow.
         Numbers are copied as text, so 13.50 stays 13.50.
Source:  FHIR R4 xml.html (order, namespaces, attributes, no empty elements, comments may be dropped)
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from lxml import etree

from ehr import limits
from ehr.errors import InvalidResource, Issue, Malformed, TooMuch
from ehr.fhir.narrative import XHTML
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Member, shape
from ehr.fhir.xml_writer import FHIR, in_xhtml, is_attribute, order
from ehr.nearest import did_you_mean

_SCHEMA: Final = "{http://www.w3.org/2001/XMLSchema-instance}schemaLocation"
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_NUMBERS: Final = {
    "decimal": _NUMBER,
    **dict.fromkeys(("integer", "positiveInt", "unsignedInt"), _INTEGER),
}
_ISSUES_MAX: Final = 100
_NAME_CHARACTERS_MAX: Final = 64
_ROOT_BYTES_MAX: Final = 64 * 1024

Tree = dict[str, Any]


def to_json(body: bytes, *, bytes_max: int = limits.resource_bytes_max) -> bytes:
    """Read one resource; refuse what is not FHIR XML."""
    root = _parsed(body, bytes_max)
    reader = _Reader()
    tree = reader.resource(root, "", 1)
    if reader.issues:
        raise InvalidResource("the body is not FHIR XML", issues=reader.issues[:_ISSUES_MAX])
    return msgspec.json.encode(tree)


def root_of(body: bytes) -> tuple[str | None, str] | None:
    """Namespace and name of the first element, None where there is none to be seen; nothing after it is read."""
    start = body[:_ROOT_BYTES_MAX]
    if b"<!DOCTYPE" in start:
        return None
    parser = etree.XMLPullParser(
        ("start",), resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True
    )
    try:
        parser.feed(start)
    except etree.XMLSyntaxError:
        return None
    for _, element in parser.read_events():
        return _name(element)
    return None


def _parsed(body: bytes, bytes_max: int) -> etree._Element:
    if len(body) > bytes_max:
        raise TooMuch(f"the resource has {len(body)} bytes, the limit is {bytes_max}")
    if b"<!DOCTYPE" in body:
        raise Malformed("a document type declaration is not read; send the resource without it")
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_pis=True
    )
    try:
        return etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise Malformed(f"not well-formed XML in UTF-8: line {line}, column {column}") from error


class _Reader:
    """One walk; goes on after a problem, so that a sender sees all of them at once."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def say(self, element: etree._Element, text: str, at: str) -> None:
        self.issues.append(Issue("structure", f"{text} (line {element.sourceline})", at or None))

    def resource(self, element: etree._Element, above: str, depth: int) -> Tree:
        space, name = _name(element)
        if name not in TYPE_IDS or space != FHIR:
            self.say(element, f"must be a resource type in the namespace {FHIR}", above)
            return {}
        tree: Tree = {"resourceType": name}
        self._attributes(element, name, above or name, tree)
        self._children(element, name, above or name, tree, depth)
        return tree

    def _object(self, element: etree._Element, kind: str, at: str, depth: int) -> Tree:
        node: Tree = {}
        self._attributes(element, kind, at, node)
        self._children(element, kind, at, node, depth)
        if not node:
            self.say(element, "must not be empty; leave the element out instead", at)
        return node

    def _attributes(self, element: etree._Element, kind: str, at: str, node: Tree, *more: str) -> None:
        for name in element.attrib:  # not items(): the library looks for each value from the first attribute on
            if name in shape(kind).members and is_attribute(kind, name):
                node[name] = element.attrib[name]
            elif name not in more and name != _SCHEMA:
                self.say(element, f"unknown attribute of {kind}", f"{at}.{_shown(name)}")

    def _children(self, element: etree._Element, kind: str, at: str, node: Tree, depth: int) -> None:
        if depth > limits.json_depth_max:
            raise Malformed(f"nested deeper than {limits.json_depth_max}", at=at)
        members, places = shape(kind).members, order(kind)
        last = ""
        for child in self._elements(element, at):
            space, name = _name(child)
            if name not in places or space != (XHTML if members[name].type == "xhtml" else FHIR):
                self.say(child, f"unknown element of {kind}{did_you_mean(name, places)}", f"{at}.{_shown(name)}")
                continue
            if last and places[name] < places[last]:
                self.say(child, f"must stand before {last}", f"{at}.{name}")
            last = name
            self._take(child, members[name], at, node, depth)
        for name in [name for name, value in node.items() if isinstance(value, list) and not any(map(_is_some, value))]:
            del node[name]

    def _elements(self, element: etree._Element, at: str) -> Iterator[etree._Element]:
        """The child elements; text between them is none of FHIR's, comments are nobody's."""
        texts = [element.text]
        for child in element:
            texts.append(child.tail)
            if isinstance(child.tag, str):
                yield child
        if any(text and not text.isspace() for text in texts):
            self.say(element, "must hold no text; values stand in the attribute value", at)

    def _take(self, child: etree._Element, member: Member, above: str, node: Tree, depth: int) -> None:
        _, name = _name(child)
        at = f"{above}.{name}"
        if member.element.max is not None:
            if name in node or f"_{name}" in node:
                self.say(child, "must be there only once", at)
            value, annotation = self._value(child, member, at, depth)
            node |= {key: one for key, one in ((name, value), (f"_{name}", annotation)) if one is not None}
            return
        values = node.setdefault(name, [])
        value, annotation = self._value(child, member, f"{at}[{len(values)}]", depth)
        values.append(value)
        if member.is_primitive:
            node.setdefault(f"_{name}", []).append(annotation)

    def _value(self, element: etree._Element, member: Member, at: str, depth: int) -> tuple[Any, Tree | None]:
        """The value, and what JSON says of a primitive beside it: its id and extensions."""
        if member.type == "xhtml":
            return etree.tostring(in_xhtml(element), encoding="unicode"), None
        if member.is_primitive:
            return self._primitive(element, member.type, at, depth)
        if member.type == "Resource":
            held = list(self._elements(element, at))
            if len(held) != 1 or element.attrib:
                self.say(element, "must hold one resource", at)
            return (self.resource(held[0], at, depth + 2) if held else None), None
        return self._object(element, member.type, at, depth + 1), None

    def _primitive(self, element: etree._Element, kind: str, at: str, depth: int) -> tuple[Any, Tree | None]:
        node: Tree = {}
        self._attributes(element, "Element", at, node, "value")
        self._children(element, "Element", at, node, depth + 1)
        text = element.get("value")
        if text is None:
            if not node:
                self.say(element, "must have a value or an extension", at)
            return None, node or None
        return self._json_value(element, kind, str(text), at), node or None

    def _json_value(self, element: etree._Element, kind: str, text: str, at: str) -> Any:
        if kind == "boolean":
            if text not in ("true", "false"):
                self.say(element, "must be true or false", at)
            return text == "true"
        if kind in _NUMBERS:
            if not _NUMBERS[kind].fullmatch(text):
                self.say(element, f"must be a number ({kind})", at)
            return msgspec.Raw(text.encode())
        return text


def _name(element: etree._Element) -> tuple[str | None, str]:
    name = etree.QName(element)
    return name.namespace, name.localname


def _shown(name: str) -> str:
    """A name the sender chose, fit for an error."""
    return name.rpartition("}")[2][:_NAME_CHARACTERS_MAX]


def _is_some(value: Any) -> bool:
    return value is not None
