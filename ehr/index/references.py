"""What a reference names → the tokens of the parameters that read it, and which of them have a value.

In:      the value of an element of type Reference; anything of another shape is passed over
Keeps:   of local references, which repeat, what they name (the Hasher, for all) and what they gave each element;
         of the others only what they say is read, each time: Reference.type and identifier are not in their text
Source:  FHIR R4 3.1.1.4.12 reference, 2.3.0 resolve()
"""

from collections.abc import Iterable
from typing import Any, Final

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.references import LOCAL
from ehr.index.hashing import CACHE_MAX, TARGET_MASK, Hasher

Given = tuple[int, tuple[int, ...]]
"""Bits of the parameters that have a value (ehr.index.outline), and their tokens."""
Asked = tuple[int, str | None, int, int, int]
"""A parameter that reads a reference: its bit, the type it must refer to, its id (0: only its bit), slot and salt."""

KNOWN_MAX: Final = 4_096
"""References of one element that are kept: what belongs to one patient comes together."""


class References:
    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self.whole = ""
        """Type/id of the resource that is read, or contains the one that is: what "#" means in it."""
        self.contained: Any = None
        """What that resource contains."""

    def given(self, known: dict[str, Given], value: Any, literal: Any, asked: Iterable[Asked]) -> Given:
        """What a reference gives the parameters that read it; known: that of the local ones that were met.

        literal: its text, where it has no identifier.
        """
        target = self.target(literal) if literal.__class__ is str else None
        stated = 0
        tokens: list[int] = []
        for bit, only, param_id, slot, salt in asked:
            if target is None:
                if only is not None and not self.points_to(value, only):
                    continue
                if param_id:
                    self._reference(tokens, value, param_id, slot, salt)
            elif only is not None and not literal.startswith(f"{only}/"):
                continue
            elif param_id:
                tokens.append((target ^ salt) & TARGET_MASK | slot)
            stated |= bit
        given = stated, tuple(tokens)
        if target is not None:  # of others, Reference.type says something too
            if len(known) >= KNOWN_MAX:
                known.clear()
            known[literal] = given
        return given

    def _reference(self, tokens: list[int], value: Any, param_id: int, slot: int, salt: int) -> None:
        if value.__class__ is not dict:
            return
        text = value.get("reference")
        if text.__class__ is str and text:
            target = self.target(text)
            if target is None and text[0] == "#":
                target = self._inside(text[1:])
            if target is not None:
                tokens.append((target ^ salt) & TARGET_MASK | slot)
            else:
                tokens.append(self._hasher.uri(param_id, text))
        if "identifier" in value and (identifier := value["identifier"]).__class__ is dict:
            self._identifier(tokens, identifier, param_id)

    def _identifier(self, tokens: list[int], value: dict[str, Any], param_id: int) -> None:
        system, text = value.get("system"), value.get("value")
        named = system if isinstance(system, str) and system else None
        if isinstance(text, str) and text:
            tokens += self._hasher.identifier_value(param_id, text), self._hasher.identifier(param_id, named, text)

    def target(self, reference: str) -> int | None:
        """Self token of a literal local reference, version taken off; None for any other text."""
        known = self._hasher.targets
        try:
            return known[reference]
        except KeyError:
            found = LOCAL.fullmatch(reference)
            token = None
            if found and found[1] in TYPE_IDS:
                token = self._hasher.digest(reference[: found.end(2)]) & TARGET_MASK
            if len(known) >= CACHE_MAX:
                known.clear()
            known[reference] = token
            return token

    def _inside(self, fragment: str) -> int:
        """Self token of a contained resource; of the container where nothing follows the #."""
        if not fragment:
            return self._hasher.shard_of(self.whole) & TARGET_MASK
        return self._hasher.contained(self.whole, fragment)

    def points_to(self, value: Any, type_name: str) -> bool:
        """resolve() is T, without resolving: by the literal reference, else by Reference.type."""
        if value.__class__ is not dict:
            return False
        text = value.get("reference")
        if isinstance(text, str) and self.target(text) is not None:
            return text.startswith(f"{type_name}/")
        found = self._type_inside(text[1:]) if isinstance(text, str) and text[:1] == "#" else None
        return bool((found or value.get("type")) == type_name)

    def _type_inside(self, fragment: str) -> str | None:
        """What _inside names is of this type."""
        if not fragment:
            return self.whole.partition("/")[0]
        inside = self.contained if self.contained.__class__ is list else ()
        named = (one for one in inside if one.__class__ is dict and one.get("id") == fragment)
        return next((one.get("resourceType") for one in named), None)

    def resource(self, tokens: list[int], value: Any, slot: int, salt: int) -> None:
        """A resource in the place of a reference (Bundle.entry[0].resource)."""
        if value.__class__ is dict:
            target = self.target(f"{value.get('resourceType')}/{value.get('id')}")
            if target is not None:
                tokens.append((target ^ salt) & TARGET_MASK | slot)
