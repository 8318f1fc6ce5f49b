"""The XHTML of a narrative → what is wrong with it, or None.

In:      Narrative.div
Out:     one sentence without the text, which may name a patient
Why:     the text is shown in pages: whatever could run there is refused at the gate, and cleaned again when shown
Source:  FHIR R4 2.4 Narrative, constraints txt-1 (basic formatting only) and txt-2 (some content)
"""

import re
from html import unescape
from html.entities import html5
from typing import Final

XHTML: Final = "http://www.w3.org/1999/xhtml"
_TAG: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)((?:\s[^<>]*?)?)(/?)>")
_ATTRIBUTE: Final = re.compile(r"""[\s/]*([A-Za-z][\w:.-]*)\s*=\s*("[^"<]*"|'[^'<]*')""")
_DANGEROUS: Final = re.compile(r"javascript|vbscript|data:(?:text|application|image/svg)", re.IGNORECASE)
_PASSED_OVER: Final = re.compile(r"[\x00-\x20]+")
"""Browsers leave these out of an address before they look at its scheme (WHATWG URL 4.4)."""
_COMMENT: Final = re.compile(r"<!--(?!-?>)(?:(?!--).)*-->", re.DOTALL)
"""One that XML and HTML end at the same place: for HTML, <!--> is a whole comment and what follows is not."""
REFERENCE: Final = re.compile(r"&(?:#([0-9]{1,7}|x[0-9A-Fa-f]{1,6});|([A-Za-z][A-Za-z0-9]*;))?")
"""What begins with &: a number or a name of a character, or neither, which is not XHTML."""
_HELD: Final = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters there are for XML (XML 1.0, 2.2)."""
_ELEMENTS: Final = frozenset(
    """a abbr acronym address b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6
    hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var kbd u s strike
    ins del center font""".split()  # noqa: SIM905
)


def narrative_problem(text: str) -> str | None:
    """One div, tags that match, nothing that runs, and some content."""
    if "<!--" in text:
        text = _without_comments(text)
    text = text.strip()
    if not (text.startswith("<div") and text.endswith("</div>")):
        return "must be one XHTML div"
    found = _tags_problem(text)
    if found is not None:
        return found
    if "&" in text and not all(map(is_character, REFERENCE.finditer(text))):
        return "must be well-formed XHTML: an & begins no character; & itself is &amp;"
    shown = _TAG.sub("", text)
    if "]]>" in shown:
        return "must be well-formed XHTML: ]]> is written ]]&gt;"
    return None if shown.strip() or "<img" in text else "must have some content (txt-2)"


def is_character(reference: re.Match[str]) -> bool:
    """A REFERENCE is one of a character that XML holds."""
    number, name = reference.groups()
    if number is None:
        return name in html5
    code = int(number[1:], 16) if number[0] == "x" else int(number)
    return code <= 0x10FFFF and _HELD.match(chr(code)) is not None


def _without_comments(text: str) -> str:
    """Comments between tags: what begins inside a tag is no comment, and hides what HTML would run."""
    parts, end = [], 0
    for comment in _COMMENT.finditer(text):
        before = text[end : comment.start()]
        if before.rfind("<") > before.rfind(">"):
            return text
        parts.append(before)
        end = comment.end()
    return "".join((*parts, text[end:]))


def _tags_problem(text: str) -> str | None:
    opened: list[str] = []
    end = 0
    for tag in _TAG.finditer(text):
        closes, name, attributes, empty = tag.groups()
        if "<" in text[end : tag.start()] or (end and not opened):
            return "must be one div of well-formed XHTML"
        end = tag.end()
        found = _tag_problem(name, attributes, text)
        if found:
            return found
        if closes and opened.pop() != name:
            return "must be well-formed XHTML: a tag is closed that is not open"
        if not closes and not empty:
            opened.append(name)
    return "must be well-formed XHTML: a tag is not closed" if opened or "<" in text[end:] else None


def _tag_problem(name: str, attributes: str, text: str) -> str | None:
    if name not in _ELEMENTS:
        return "must hold formatting elements of XHTML only (txt-1)"
    end = 0
    while attribute := _ATTRIBUTE.match(attributes, end):
        end = attribute.end()
        if attribute[1] == "xmlns" and attribute[2][1:-1] != XHTML:
            return f"must be in the namespace {XHTML}"
        prefix, colon, _ = attribute[1].partition(":")
        if colon and prefix not in {"xml", "xmlns"} and f"xmlns:{prefix}" not in text:
            return "must be well-formed XHTML: an attribute has a prefix that is not declared"
        if attribute[1].lower().startswith("on") or _runs(attribute[2][1:-1]):
            return "must hold nothing that runs (txt-1)"
    return "must be well-formed XHTML: an attribute is wrong" if attributes[end:].strip(" \t\r\n/") else None


def _runs(value: str) -> bool:
    """Whether a value is an address that runs, read as a browser reads it: without references and white space."""
    return _DANGEROUS.match(_PASSED_OVER.sub("", unescape(value))) is not None
