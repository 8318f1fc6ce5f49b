"""Which parameters of a resource have a value: one token, whatever their number.

Outline  the set of them. Resources of a type show some dozens of outlines, because forms and systems repeat
Kept     a term (-parameter id, token) for each parameter of an outline, so that a search finds the outlines that have
         a value for it, and by their tokens the resources
Why:     a hash for each parameter was two in five of all tokens, and most of those lay on every resource of a type
Before:  rows that were indexed before this have those hashes; searches ask for both (docs/adr/0098)
"""

from collections.abc import Iterator

from ehr.fhir.parameters import Parameter, Parameters
from ehr.index.hashing import CACHE_MAX
from ehr.index.leaves import Leaves

COLUMNS = frozenset({"_id", "_lastUpdated"})
"""Parameters that every resource has a value of, in columns of their own."""


def stated(known: Parameters, type_name: str) -> list[Parameter]:
    """Those that may have a value, in the order of their bits."""
    return [one for one in known.of(type_name).values() if one.code not in COLUMNS]


class Outlines:
    """Of the function of one type, whose bits they know."""

    def __init__(self, leaves: Leaves, stated: list[Parameter]) -> None:
        self._leaves = leaves
        self._ids = [one.id for one in stated]
        self._known: dict[int, int] = {}

    def token(self, have: int) -> int:
        """have: a bit for each parameter that has a value."""
        found = self._known.get(have)
        if found is None:
            ids = list(self._of(have))
            found = self._leaves.hasher.outline(ids)
            kept = [self._leaves.is_kept((-id, str(found))) for id in ids]
            if all(kept):
                if len(self._known) >= CACHE_MAX:
                    self._known.clear()
                self._known[have] = found
        return found

    def _of(self, have: int) -> Iterator[int]:
        return (id for number, id in enumerate(self._ids) if have >> number & 1)
