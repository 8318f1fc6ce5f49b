"""Texts → the words by which they are found: narrative for _text, whole resources for _content, sounds for phonetic.

Words    runs of letters and digits, folded as strings are (no case, no accents, đ is d); no stop words, no stems:
         what is right for one language is wrong for the other
Sounds   a Vietnamese syllable by its sound without tone, with what the dialects merge made one (gi and r; ch and
         tr; s and x; n and ng at the end); every word by Metaphone too, which is made for English
Limits   limits.narrative_words_max: later words of a narrative are not kept
Source:  FHIR R4 3.1.1.4.15 _text and _content; Metaphone: L. Philips, Computer Language 7 (1990)
"""

import html
import re
from collections.abc import Iterator
from typing import Any, Final

from jellyfish import metaphone

from ehr import limits
from ehr.index.normalize import fold

_WORD: Final = re.compile(r"\w+")
_TAG: Final = re.compile(r"<[^>]*>")
_SYLLABLE: Final = re.compile(
    r"(?P<onset>ngh|ng|nh|ch|gh|gi|kh|ph|qu|th|tr|[bcdghklmnrstvx]|)"
    r"(?P<vowels>[aeo]|i(?:a|eu?|u)?|u(?:a[uy]?|e|i|o[iu]?|y(?:a|e|u)?)?|y(?:eu?)?|a[iouy]|e[ou]|o(?:a[ioy]?|eo?|i|o))"
    r"(?P<coda>ng|nh|ch|[cmnpt]|)"
)
_ONSETS: Final = {"ngh": "ng", "gh": "g", "c": "k", "qu": "kw", "gi": "z", "r": "z", "tr": "ch", "s": "x"}
_CODAS: Final = {"ng": "n", "ch": "t", "c": "t", "nh": "n"}
_NOT_CONTENT: Final = frozenset({"resourceType", "data"})


def words(text: str) -> list[str]:
    """Each word once, in the order of the text."""
    return list(dict.fromkeys(_WORD.findall(fold(text))))


def narrative(div: str) -> list[str]:
    """The words a person sees of an XHTML div."""
    return words(html.unescape(_TAG.sub(" ", div)))[: limits.narrative_words_max]


def content(tree: Any) -> set[str]:
    """Every word of a resource, narrative included; not what is base64."""
    return {word for text in _texts(tree) for word in _WORD.findall(fold(text))}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == "div" and isinstance(value, str):
                yield html.unescape(_TAG.sub(" ", value))
            elif name not in _NOT_CONTENT:
                yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree
    elif tree is not None and not isinstance(tree, bool):
        yield str(tree)


def sounds(word: str) -> list[str]:
    """Under what a word of a name is kept."""
    return [sound for sound in (_syllable(word), _metaphone(word)) if sound]


def sound(word: str) -> str | None:
    """By what it is looked for: as a Vietnamese syllable where it is one, so that "An" does not find every vowel."""
    return _syllable(word) or _metaphone(word)


def _syllable(word: str) -> str | None:
    found = _SYLLABLE.fullmatch(word)
    if found is None:
        return None
    onset, coda = found["onset"], found["coda"]
    vowels = found["vowels"].replace("y", "i")
    return f"v{_ONSETS.get(onset, onset)}{vowels}{_CODAS.get(coda, coda)}"


def _metaphone(word: str) -> str | None:
    made = metaphone(word)
    return f"m{made}" if made else None
