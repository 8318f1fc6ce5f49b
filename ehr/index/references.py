"""What a reference names → the tokens of the parameters that read it, and which of them have a value.

In:      the value of an element of type Reference; anything of another shape is passed over
Keeps:   the Hasher has what local references name, which repeat: the generated functions look there first
Source:  FHIR R4 3.1.1.4.12 reference, 2.3.0 resolve()
"""

from collections.abc import Iterable
from typing import Any

from ehr.fhir.r4 import TYPE_IDS
from ehr.fhir.references import LOCAL
from ehr.index.hashing import CACHE_MAX, TARGET_MASK, Hasher

Asked = tuple[int, str | None, int, int]
"""A parameter that reads a reference: its bit (ehr.index.outline), the type it must refer to, its id (0: only its bit
counts), and what its tokens are mixed with (Hasher.mixed)."""


class References:
    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher
        self.whole = ""
        """Type/id of the resource that is read, or contains the one that is: what "#" means in it."""
        self.contained: Any = None
        """What that resource contains."""

    def read(self, tokens: list[int], value: Any, asked: Iterable[Asked]) -> int:
        """Add the tokens of the parameters that read a reference; the bits of those that have a value."""
        stated = 0
        for bit, only, param_id, mixed in asked:
            if only is None or self.points_to(value, only):
                stated |= bit
                if param_id:
                    self._reference(tokens, value, param_id, mixed)
        return stated

    def _reference(self, tokens: list[int], value: Any, param_id: int, mixed: int) -> None:
        if value.__class__ is not dict:
            return
        text = value.get("reference")
        if text.__class__ is str and text:
            target = self._inside(text[1:]) if text[0] == "#" else self.target(text)
            tokens.append(self._hasher.uri(param_id, text) if target is None else target ^ mixed)
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
        token = known.get(reference)
        if token is None and reference not in known:
            found = LOCAL.fullmatch(reference)
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

    def resource(self, tokens: list[int], value: Any, mixed: int) -> None:
        """A resource in the place of a reference (Bundle.entry[0].resource)."""
        if value.__class__ is dict:
            target = self.target(f"{value.get('resourceType')}/{value.get('id')}")
            if target is not None:
                tokens.append(target ^ mixed)
