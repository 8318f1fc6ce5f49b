"""FHIR JSON → FHIR XML, with every digit and every character as it was.

In:      bytes of one valid resource in JSON
Out:     bytes of the same resource in XML: elements in the order of the definitions, ids and extension urls as
         attributes, the narrative as XHTML; indented where asked
Keeps:   numbers as text. A character that XML cannot hold (U+0001) becomes U+FFFD: FHIR forbids those in strings
Why:     json of the standard library hands numbers over as they are written, which no faster reader does
Source:  FHIR R4 xml.html, json.html (the two formats differ in form only)
"""

import html
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from lxml import etree

from ehr.fhir.narrative import REFERENCE, XHTML, is_character
from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.structure import Member, shape

FHIR: Final = "http://hl7.org/fhir"

_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'
_SPECIAL: Final = re.compile('[&<>"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]')
_UNHOLDABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ENTITY: Final = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_OF_XML: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class _Digits(str):
    """A number as JSON writes it."""

    __slots__ = ()


def to_xml(body: bytes, *, pretty: bool = False) -> bytes:
    """Write one resource."""
    writer = _Writer(pretty=pretty)
    writer.resource(json.loads(body, parse_int=_Digits, parse_float=_Digits), 0, f' xmlns="{FHIR}"')
    return "".join(writer.out).encode()


class _Writer:
    def __init__(self, *, pretty: bool) -> None:
        self.out = [_HEAD]
        self._pretty = pretty

    def resource(self, tree: Mapping[str, Any], level: int, attributes: str = "") -> None:
        kind = tree["resourceType"]
        self._object(kind, attributes, tree, kind, level)

    def _object(self, name: str, attributes: str, node: Mapping[str, Any], kind: str, level: int) -> None:
        """An element with children, or one that has attributes only."""
        children = _children(kind, node)
        self._line(level)
        if not children:
            self.out.append(f"<{name}{attributes}/>")
            return
        self.out.append(f"<{name}{attributes}>")
        members = shape(kind).members
        for child in children:
            self._member(child, members[child], node, level + 1)
        self._line(level)
        self.out.append(f"</{name}>")

    def _member(self, name: str, member: Member, node: Mapping[str, Any], level: int) -> None:
        values, annotations = node.get(name), node.get(f"_{name}")
        if member.element.max is not None:
            values, annotations = [values], [annotations]
        values, annotations = values or [], annotations or []
        for place in range(max(len(values), len(annotations))):
            value = values[place] if place < len(values) else None
            self._value(name, member, value, annotations[place] if place < len(annotations) else None, level)

    def _value(self, name: str, member: Member, value: Any, annotation: Mapping[str, Any] | None, level: int) -> None:
        if member.type == "xhtml":
            self._line(level)
            self.out.append(_xhtml(value))
        elif member.is_primitive:
            attributes = "" if value is None else f' value="{_attribute(_text(value))}"'
            node = annotation or {}
            self._object(name, _id(node) + attributes, node, "Element", level)
        elif member.type == "Resource":
            self._line(level)
            self.out.append(f"<{name}>")
            self.resource(value, level + 1)
            self._line(level)
            self.out.append(f"</{name}>")
        else:
            url = f' url="{_attribute(value["url"])}"' if member.type == "Extension" else ""
            self._object(name, _id(value) + url, value, member.type, level)

    def _line(self, level: int) -> None:
        if self._pretty:
            self.out.append("\n" + "  " * level)


def is_attribute(kind: str, name: str) -> bool:
    """What XML writes as an attribute: the id of an element (not of a resource), the url of an extension."""
    return (name == "id" and kind not in TYPE_IDS) or (name == "url" and kind == "Extension")


@cache
def order(kind: str) -> Mapping[str, int]:
    """The place of each child element of a type."""
    return {name: place for place, name in enumerate(shape(kind).members) if not is_attribute(kind, name)}


def _children(kind: str, node: Mapping[str, Any]) -> list[str]:
    places = order(kind)
    return sorted({name.removeprefix("_") for name in node if name.removeprefix("_") in places}, key=places.__getitem__)


def _id(node: Mapping[str, Any]) -> str:
    return f' id="{_attribute(node["id"])}"' if "id" in node else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "true" if value is True else "false"


def _attribute(text: str) -> str:
    return _SPECIAL.sub(_escaped, text) if _SPECIAL.search(text) else text


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if _UNHOLDABLE.match(character):
        return "\ufffd"
    return _ESCAPES.get(character) or f"&#{ord(character)};"


def _xhtml(div: str) -> str:
    """The narrative as it is, where it is XML in its namespace; else as near to it as XML can be."""
    plain = _ENTITY.sub(_character, _UNHOLDABLE.sub("\ufffd", div)).strip()
    try:
        root = etree.fromstring(plain.encode(), _parser(recover=False))
    except etree.XMLSyntaxError:
        root = etree.fromstring(_mended(plain).encode(), _parser(recover=True))
    else:
        if root.tag == f"{{{XHTML}}}div":
            return plain
    return etree.tostring(in_xhtml(root), encoding="unicode")


def _mended(div: str) -> str:
    """What a parser that goes on would leave out of the text: an & that begins no character, and ]]>."""
    written = REFERENCE.sub(lambda found: found[0] if is_character(found) else f"&amp;{found[0][1:]}", div)
    return written.replace("]]>", "]]&gt;")


def _parser(*, recover: bool) -> etree.XMLParser[etree._Element]:
    return etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=recover)


def _character(found: re.Match[str]) -> str:
    """A named entity of HTML, which XML does not know, as its character."""
    return found[0] if found[1] in _OF_XML else html.unescape(found[0])


def in_xhtml(element: etree._Element) -> etree._Element:
    """The same element in the namespace of XHTML, declared once and without a prefix; comments are dropped."""
    made = etree.Element(f"{{{XHTML}}}{etree.QName(element).localname}", nsmap={None: XHTML})
    _fill(made, element)
    return made


def _fill(made: etree._Element, element: etree._Element) -> None:
    made.text = element.text
    for name, value in element.attrib.items():
        if ":" not in name.rpartition("}")[2]:  # else a prefix that nothing declares
            made.set(name, value)
    for child in element:
        if isinstance(child.tag, str):
            inner = etree.SubElement(made, f"{{{XHTML}}}{etree.QName(child).localname}")
            _fill(inner, child)
            inner.tail = child.tail
        elif made[-1:]:
            made[-1].tail = (made[-1].tail or "") + (child.tail or "")
        else:
            made.text = (made.text or "") + (child.tail or "")
