"""The links of a Bundle: self as it was understood, and the pages beside it.

In:      the request, the cursors of its neighbours
Out:     [(relation, url)]
Keeps:   parameters in their order, and how the answer is to look at their end, so that every page looks the same; the
         ones that were ignored are not in self, so a client can see what was used
Source:  FHIR R4 bundle.html#bundle-unique, search.html#conformance, http.html#paging
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from ehr.api.exchange import Exchange

Link = tuple[str, str]
KEPT_CHARACTERS_MAX: Final = 120


def address(path: str, parameters: Sequence[tuple[str, str]]) -> str:
    """A url with its query; commas, bars, colons and slashes stay readable."""
    if not parameters:
        return path
    pairs = [
        _kept(name, value) if len(name) + len(value) <= KEPT_CHARACTERS_MAX else _written(name, value)
        for name, value in parameters
    ]
    return f"{path}?{'&'.join(pairs)}"


def _written(name: str, value: str) -> str:
    return f"{quote(name, safe=':.$')}={quote(value, safe=',|:/$-_.')}"


_kept: Final = lru_cache(1_024)(_written)
"""The links of a page repeat the parameters of its search, and those of other pages; a cursor is longer."""


def history_links(exchange: Exchange, next_cursor: str | None) -> list[Link]:
    """Links of a history page; newest first, so only forward ones."""
    parts = [exchange.path[name] for name in ("type", "id") if name in exchange.path]
    path = "/".join([exchange.base, *parts, "_history"])
    kept = [one for one in exchange.query if one[0] in ("_count", "_since", "_at", "_summary", "_elements")]
    kept += exchange.looks
    here = [one for one in exchange.query if one[0] == "_page"]
    links = [("self", address(path, [*kept, *here]))]
    if next_cursor is not None:
        links.append(("next", address(path, [*kept, ("_page", next_cursor)])))
    return links


def page_links(
    path: str,
    parameters: Sequence[tuple[str, str]],
    *,
    cursor_name: str,
    next_cursor: str | None,
    previous_cursor: str | None,
) -> list[Link]:
    """Links of a page; parameters are those that were used."""
    others = [one for one in parameters if one[0] != cursor_name]
    first = address(path, others)
    links = [("self", first)]
    if len(others) != len(parameters):
        links = [("self", address(path, parameters)), ("first", first)]
    begun = f"{first}{'&' if others else '?'}{cursor_name}="
    if previous_cursor is not None:
        links.append(("previous", begun + previous_cursor))
    if next_cursor is not None:
        links.append(("next", begun + next_cursor))
    return links
