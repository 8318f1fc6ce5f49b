"""The one code parameter of each type whose first coding lies in a fixed place: tokens[2].

An index of (tokens[2], main date, rid) has the rows of a code as they are asked for, in any store: the newest first.
First    the token, with its system, of the first coding; another token where the first one has no code
Further  each other coding leaves one token more, so that rows that are listed under another code can be looked up
Rule     one concept, in a type that has a partition of its own and a main date (ehr.database.partitions.CODED_TYPES)
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from ehr.database.partitions import CODED_TYPES
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter
from ehr.index.hashing import CACHE_MAX, Hasher

CHOSEN: Final[Mapping[str, str]] = {"Immunization": "vaccine-code"}


@cache
def main_code(type_name: str) -> Parameter | None:
    """The chosen one, else one called "code"."""
    return parameters.of(type_name)[CHOSEN.get(type_name, "code")] if type_name in CODED_TYPES else None


class MainCodes:
    """Of the resources of one type."""

    def __init__(self, hasher: Hasher, parameter: Parameter) -> None:
        self._hasher, self._id = hasher, parameter.id
        self._element = parameter.paths[0].steps[0].name
        self._known: dict[tuple[Any, Any], int] = {}

    def of(self, tree: Mapping[str, Any]) -> tuple[int | None, Sequence[int]]:
        """The token of the first coding, and those that say that there are others; lenient about their shape."""
        concept = tree.get(self._element)
        codings = concept.get("coding") if concept.__class__ is dict else None
        if codings.__class__ is not list or not codings:
            return None, ()
        first = codings[0]
        token = self._token(first) if first.__class__ is dict else None
        if len(codings) == 1:
            return token, ()
        further = (named(one) for one in codings[1:])
        return token, [self._hasher.further(self._id, *one) for one in further if one is not None]

    def _token(self, coding: Mapping[str, Any]) -> int | None:
        key = coding.get("system"), coding.get("code")
        try:
            return self._known[key]
        except (KeyError, TypeError):  # not seen yet, or not hashable: not a Coding
            if (found := named(coding)) is None:
                return None
        if len(self._known) >= CACHE_MAX:
            self._known.clear()
        token = self._known[key] = self._hasher.token(self._id, *found)
        return token


def named(coding: Any) -> tuple[str | None, str] | None:
    """System and code, where there is a code; a system that is none is left out, as ehr.index.leaves does."""
    if coding.__class__ is not dict or not isinstance(code := coding.get("code"), str) or not code:
        return None
    system = coding.get("system")
    return (system if isinstance(system, str) and system else None), code
