"""What a check knows of profiles and codes, and what it had to ask.

Why:     a check is pure and cannot fetch. What it does not find here it asks for, goes on as if it were well, and is
         run again when the answers are there; a run that asked nothing is the result. Warm, that is the first one
Keeps:   every answer: whoever fills a library begins another when what it came from changes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr.fhir.profiles.core import BUILT_IN
from ehr.fhir.profiles.read import base_of, read
from ehr.fhir.profiles.rule import Profile, Unusable


@dataclass(frozen=True, slots=True)
class CodeQuestion:
    """Is the code in the value set? system None: a code element, whose system the value set tells."""

    value_set: str
    system: str | None
    code: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run asked and the library did not have. is_asked: whether it asked anything, known or not."""

    profiles: frozenset[str]
    codes: frozenset[CodeQuestion]
    is_asked: bool

    def __bool__(self) -> bool:
        return bool(self.profiles or self.codes)


class Library:
    """Compiled profiles by canonical, and answers about codes."""

    def __init__(self) -> None:
        self._trees: dict[str, Mapping[str, Any] | None] = {}
        self._compiling: set[str] = set()
        self._profiles: dict[str, Profile | Unusable] = {}
        self._codes: dict[CodeQuestion, bool | None] = {}
        self._asked_profiles: set[str] = set()
        self._asked_codes: set[CodeQuestion] = set()
        self._is_asked = False

    # ---- asked by a check

    def profile(self, canonical: str) -> Profile | Unusable | None:
        """None: there is none of this name, or it is not known yet and has been asked for."""
        self._is_asked = True
        if canonical not in self._profiles:
            tree = self._tree(canonical)
            made = None if tree is None else self._compiled(canonical, tree)
            if made is None:
                return None
            self._profiles[canonical] = made
            self._trees.pop(canonical, None)
        return self._profiles[canonical]

    def member(self, question: CodeQuestion) -> bool | None:
        """None: the value set is not known. A question not answered yet is asked, and meanwhile well."""
        if question not in self._codes:
            self._asked_codes.add(question)
            return True
        return self._codes[question]

    # ---- filled by who can fetch

    def wanted(self) -> Wanted:
        """What was asked since the last call."""
        wanted = Wanted(frozenset(self._asked_profiles), frozenset(self._asked_codes), self._is_asked)
        self._asked_profiles, self._asked_codes, self._is_asked = set(), set(), False
        return wanted

    def tell_profile(self, canonical: str, tree: Mapping[str, Any] | None) -> None:
        self._trees[canonical] = tree

    def tell_code(self, question: CodeQuestion, answer: bool | None) -> None:
        self._codes[question] = answer

    # ---- inside

    def _tree(self, canonical: str) -> Mapping[str, Any] | None:
        if canonical not in self._trees:
            built_in = BUILT_IN.get(canonical.partition("|")[0])
            if built_in is None:
                self._asked_profiles.add(canonical)
            return built_in
        return self._trees[canonical]

    def _compiled(self, canonical: str, tree: Mapping[str, Any]) -> Profile | Unusable | None:
        """None: its base has to be told first."""
        base: Profile | Unusable | None = None
        if (name := base_of(tree)) is not None:
            if canonical in self._compiling:
                return Unusable("it is its own base")
            self._compiling.add(canonical)
            base = self.profile(name)
            self._compiling.discard(canonical)
            if base is None:
                return None if self._asked_profiles else Unusable(f"its base {name} is not known here")
        if isinstance(base, Unusable):
            return Unusable(f"its base {name} cannot be used: {base.text}")
        try:
            return read(tree, base)
        except Unusable as error:
            return error
