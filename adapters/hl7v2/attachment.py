"""Turn ED (encapsulated data) and lines of text into Attachment.

Source:  HL7 v2-to-FHIR guide, ED[Attachment]; HL7 v2.5.1 2.A.24, tables 0191, 0291 and 0299
"""

import base64
import binascii
import re
from typing import Final

from adapters.draft import Tree
from adapters.hl7v2.message import Element

MEDIA: Final = {
    "PDF": "application/pdf",
    "JPEG": "image/jpeg",
    "JPG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "RTF": "text/rtf",
    "HTML": "text/html",
    "XML": "application/xml",
    "DICOM": "application/dicom",
    "TXT": "text/plain",
    "PLAIN": "text/plain",
    "X-HL7-CDA-LEVEL-ONE": "application/xml",
}
_MEDIA_TYPE: Final = re.compile(r"[a-z]+/[\w.+-]+", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s+")


def attachment(element: Element) -> Tree | None:
    """ED: source^type^subtype^encoding^data; None where there are no data or they cannot be decoded."""
    encoding, data = element.text(4).upper(), element.component(5)
    content = _decoded(encoding, data)
    if not content:
        return None
    return {"contentType": media_type(element.text(2), element.text(3)), "data": base64.b64encode(content).decode()}


def _decoded(encoding: str, data: str) -> bytes | None:
    try:
        if encoding == "BASE64":
            return base64.b64decode(_SPACE.sub("", data), validate=True)
        if encoding == "HEX":
            return bytes.fromhex(data)
    except (binascii.Error, ValueError):
        return None
    return data.encode()


def media_type(kind: str, subtype: str) -> str:
    if _MEDIA_TYPE.fullmatch(kind):
        return kind.lower()
    if _MEDIA_TYPE.fullmatch(f"{kind}/{subtype}") and kind.lower() in (
        "application",
        "image",
        "text",
        "audio",
        "video",
    ):
        return f"{kind}/{subtype}".lower()
    return MEDIA.get(subtype.upper()) or MEDIA.get(kind.upper()) or "application/octet-stream"


def text_attachment(text: str, title: str = "") -> Tree:
    """Plain text in UTF-8, whatever the message's character set was."""
    data = base64.b64encode(text.encode()).decode()
    return {"contentType": "text/plain; charset=utf-8", "data": data, **({"title": title} if title else {})}
