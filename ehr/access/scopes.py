"""Turn a space separated list of scopes into the rights it grants, and nothing more.

In:      "system/Patient.rs system/Observation.cruds", as a client asks or a token says
Out:     Scope(context, type_name, actions) for each scope the grammar accepts; Grants of one context
Errors:  none: a scope that is not understood gives no right (SMART App Launch 2.2, 3.0.2)
Keeps:   SMART v1 endings: read → rs, write → cud, * → cruds
Why:     A scope with search parameters (…?category=laboratory) narrows a right we could only grant whole: it gives
         none. So does one whose letters are not in the order c r u d s.
Source:  SMART App Launch 2.2.0, Scopes for requesting FHIR resources
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from ehr.access.policy import Action, Grants
from ehr.fhir.r4 import TYPE_IDS

Context = Literal["patient", "user", "system"]

ACTIONS: Final[tuple[Action, ...]] = ("c", "r", "u", "d", "s")
_SCOPE: Final = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.(c?r?u?d?s?|read|write|\*)", re.ASCII)
_VERSION_1: Final = {"read": "rs", "write": "cud", "*": "cruds"}


@dataclass(frozen=True, slots=True)
class Scope:
    """One understood scope: who acts, on which type ("*" for all), and what they may do."""

    context: Context
    type_name: str
    actions: frozenset[Action]

    def __str__(self) -> str:
        return f"{self.context}/{self.type_name}.{''.join(a for a in ACTIONS if a in self.actions)}"


def parse_scope(text: str) -> Scope | None:
    """The right one scope asks for, or None where the grammar does not accept it."""
    found = _SCOPE.fullmatch(text)
    if found is None:
        return None
    context, type_name, ending = found.groups()
    letters = _VERSION_1.get(ending, ending)
    if not letters or (type_name != "*" and type_name not in TYPE_IDS):
        return None
    return Scope(cast("Context", context), type_name, frozenset(cast("Iterable[Action]", letters)))


def parse(text: str) -> list[Scope]:
    """Every understood scope of a space separated list, in its order."""
    return [scope for word in text.split(" ") if (scope := parse_scope(word)) is not None]


def intersect(asked: Iterable[Scope], registered: Iterable[Scope]) -> list[Scope]:
    """What may be granted: each asked scope narrowed to what is registered, widened by nothing."""
    rights: dict[tuple[Context, str], set[Action]] = {}
    kept = list(registered)
    for wish in asked:
        for right in kept:
            if wish.context != right.context:
                continue
            if "*" not in (wish.type_name, right.type_name) and wish.type_name != right.type_name:
                continue
            type_name = right.type_name if wish.type_name == "*" else wish.type_name
            rights.setdefault((wish.context, type_name), set()).update(wish.actions & right.actions)
    return [Scope(context, name, frozenset(actions)) for (context, name), actions in rights.items() if actions]


def grants(scopes: Iterable[Scope], context: Context) -> Grants:
    """The rights of one context: a patient/ scope gives a system client nothing, and the reverse."""
    rights: dict[str, frozenset[Action]] = {}
    for scope in scopes:
        if scope.context == context:
            rights[scope.type_name] = rights.get(scope.type_name, frozenset()) | scope.actions
    return Grants(rights)


def written(scopes: Iterable[Scope]) -> str:
    """The list as a token response and a token carry it."""
    return " ".join(map(str, scopes))
