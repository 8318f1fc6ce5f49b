"""_summary and _elements of an answer that is no search: a read, a version, a history, an operation.

In:      the query of the exchange; the types the answer may hold, or none for any
Out:     Subset, or None where the whole is wanted
Source:  FHIR R4 search.html#summary, #elements
"""

from typing import Final, TypeVar

from ehr.api.exchange import Exchange
from ehr.errors import Malformed
from ehr.fhir.subset import Subset, subset_of
from ehr.search.found import Found
from ehr.store.version import Version

Shown = TypeVar("Shown", Version, Found)

PART: Final = ("_summary", "_elements")
_SUMMARIES: Final = ("true", "text", "data", "false")


def part_of(exchange: Exchange, *type_names: str) -> Subset | None:
    """What part of each resource is wanted; count is for searches and histories."""
    summary = exchange.parameter("_summary")
    if summary not in (None, *_SUMMARIES):
        raise Malformed(f"_summary is one of {', '.join(_SUMMARIES)} here", at="_summary")
    elements = [one for one in (exchange.parameter("_elements") or "").split(",") if one]
    return subset_of(type_names, summary, elements)


def shown_part(one: Shown, part: Subset | None) -> Shown:
    """The same resource with the part of its body; a deletion has none."""
    if part is None or one.body is None:
        return one
    return one.with_body(part.of(one.type_name, one.body))
