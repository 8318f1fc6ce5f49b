"""Text → the form in which text is compared, so that "Nguyễn  Đức" is found by "nguyen duc".

Out:     composed (NFC), case folded, Latin accents and tone marks off, đ → d, runs of white space one blank
Limits:  VALUE_CHARACTERS_MAX: an index entry must fit a btree page (2,704 bytes at 4 bytes a character)
Source:  FHIR R4 3.1.1.4.8 string: "case and accent insensitive"
"""

import re
import unicodedata
from typing import Final

VALUE_CHARACTERS_MAX: Final = 600
"""Longer texts are found by their first 600 characters."""

_MARKS: Final = re.compile("[\u0300-\u036f]")
_BARRED: Final = str.maketrans({"đ": "d", "ð": "d", "ł": "l", "ø": "o", "ı": "i"})


def fold(text: str) -> str:
    if text.isascii():
        return " ".join(text.lower().split())
    bare = _MARKS.sub("", unicodedata.normalize("NFD", text.casefold()))
    bare = bare.casefold().translate(_BARRED)
    return " ".join(unicodedata.normalize("NFC", bare).split())


def contact(value: str) -> str:
    """A phone number, mail address or URL as it is compared: without case, blanks and the punctuation of numbers."""
    text = value.strip().casefold()
    if "@" in text or ":" in text:
        return text
    return re.sub(r"[\s().\-/]", "", text) or text
