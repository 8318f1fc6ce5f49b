"""Text after _text=, _content= or phonetic= → a condition on single words.

_text, _content   words side by side are an AND; "or", "and", "not" and parentheses as one expects, in any case;
                  "and" binds closer than "or"
phonetic          every word must sound like a word of the name
Errors:  BadSearch      parentheses that do not close, an operator without a word
         NotSupported   phrases ("…") and wild cards: single words are kept, not their order
Source:  FHIR R4 3.1.1.4.15 _text and _content
"""

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from ehr import limits
from ehr.errors import BadSearch, NotSupported, TooMuch
from ehr.index.words import sound, words
from ehr.search.terms import AllOf, AnyOf, Condition, Not

Leaf: TypeAlias = Callable[[str], Condition]
"""What is asked of one word."""

_TOKEN: Final = re.compile(r"[()]|[^\s()]+")
DEPTH_MAX: Final = 16


def expression(text: str, at: str, leaf: Leaf) -> Condition:
    """A logical expression of words."""
    if '"' in text or "*" in text or "?" in text:
        raise NotSupported("phrases and wild cards are not served; words side by side must all occur", at=at)
    reader = _Reader(_TOKEN.findall(text), at, leaf)
    return reader.whole()


def sounding(text: str, at: str, leaf: Leaf) -> Condition:
    """Every word by its sound; words without one, as numbers are, cannot be asked for."""
    found = [made for one in words(text) if (made := sound(one))]
    if not found:
        raise BadSearch("no word here has a sound", at=at)
    return all_of([leaf(one) for one in dict.fromkeys(found)])


def all_of(conditions: list[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else AllOf(tuple(conditions))


def any_of(conditions: list[Condition]) -> Condition:
    return conditions[0] if len(conditions) == 1 else AnyOf(tuple(conditions))


class _Reader:
    def __init__(self, marks: list[str], at: str, leaf: Leaf) -> None:
        if len(marks) > limits.search_values_max:
            raise TooMuch(f"more than {limits.search_values_max} words", at=at)
        self._marks, self._at, self._leaf = marks, at, leaf
        self._place = self._depth = 0

    def whole(self) -> Condition:
        found = self._either()
        if self._peek():
            raise BadSearch("there is a closing parenthesis too many", at=self._at)
        return found

    def _peek(self) -> str:
        return self._marks[self._place].lower() if self._place < len(self._marks) else ""

    def _either(self) -> Condition:
        found = [self._every()]
        while self._peek() == "or":
            self._place += 1
            found.append(self._every())
        return any_of(found)

    def _every(self) -> Condition:
        found = [self._one()]
        while self._peek() not in {"", ")", "or"}:
            if self._peek() == "and":
                self._place += 1
            found.append(self._one())
        return all_of(found)

    def _one(self) -> Condition:
        mark = self._peek()
        if mark in {"", ")", "and", "or"}:
            raise BadSearch("a word is missing here", at=self._at)
        self._place += 1
        if mark == "not":
            return Not(self._one())
        if mark == "(":
            return self._within()
        found = words(mark)
        if not found:
            raise BadSearch("there is no word in this", at=self._at)
        return all_of([self._leaf(one) for one in found])

    def _within(self) -> Condition:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise TooMuch(f"parentheses in more than {DEPTH_MAX} others", at=self._at)
        found = self._either()
        if self._peek() != ")":
            raise BadSearch("a parenthesis is not closed", at=self._at)
        self._place += 1
        self._depth -= 1
        return found
