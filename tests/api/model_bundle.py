"""A transaction against the model: which resource each entry and each reference means, and what stands then.

In:      the state before; the entries as Asks; the id of what an entry makes
Out:     the state after and a Due for each entry; Refused, and nothing stands
Source:  FHIR R4 http.html#trules (DELETE, POST, PUT and PATCH, GET, conditional references), docs/adr/0083
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tests.api.model import Ask, Due, Key, Refused, State, identifier_of, identifiers

TURNS = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
"""In what order entries are processed."""


def transact(state: State, asks: Sequence[Ask], fresh: Callable[[int], str]) -> tuple[State, list[Due]]:
    """All of them or, as Refused, none. A first pass says which resources are meant, the second one what is written."""
    rehearsed, meant = _process(state, asks, fresh)
    wrong = [*_overlapping(asks, meant), *_shared(asks, meant)]
    literal = {
        ask.full_url: "/".join(due.key)
        for ask, due in zip(asks, meant, strict=True)
        if due.key and ask.full_url and ask.method in ("POST", "PUT")
    }
    resolved = []
    for ask, due in zip(asks, meant, strict=True):
        try:
            resolved.append(replace(ask, tree=_resolved(ask.tree, literal, rehearsed)) if _is_write(ask, due) else ask)
        except Refused as refused:
            wrong += refused.statuses
            resolved.append(ask)
    failed = [status for due in meant if due.status >= 400 for status in due.refused]
    if wrong or failed:
        raise Refused(*wrong, *failed)
    return _process(state, resolved, fresh)


def _process(state: State, asks: Sequence[Ask], fresh: Callable[[int], str]) -> tuple[State, list[Due]]:
    after = state.copy(looks=state)
    dues = [Due(0)] * len(asks)
    for turn in range(4):
        start = after.copy()
        for place, ask in enumerate(asks):
            if TURNS[ask.method] != turn:
                continue
            try:
                _refuse_unsettled(ask, state, start)
                dues[place] = after.perform(ask, fresh(place))
            except Refused as refused:
                dues[place] = Due(refused.statuses[0], refused=refused.statuses)
    after.looks = None
    return after, dues


def _refuse_unsettled(ask: Ask, before: State, start: State) -> None:
    """What means one resource before the transaction and another one in its turn is refused."""
    if ask.condition is None:
        return
    if identifier_of(ask.condition):
        if before.matching(ask.type, ask.condition) != start.matching(ask.type, ask.condition):
            raise Refused(422, 412, 404)
    elif any(start.current(key) is None for key in before.matching(ask.type, ask.condition)):
        raise Refused(422, 412, 404)


def _overlapping(asks: Sequence[Ask], meant: Sequence[Due]) -> list[int]:
    """No two entries write one resource, or have one condition."""
    conditions = Counter((ask.type, ask.condition) for ask in asks if ask.condition is not None)
    keys = [due.key or (ask.type, ask.id or "") for ask, due in zip(asks, meant, strict=True) if _is_write(ask, due)]
    targets = Counter(key for key in keys if key[1])
    return [422] if any(count > 1 for count in [*conditions.values(), *targets.values()]) else []


def _is_write(ask: Ask, due: Due) -> bool:
    """Not a conditional create that found its resource."""
    return ask.writes and not (ask.method == "POST" and due.status == 200)


def _shared(asks: Sequence[Ask], meant: Sequence[Due]) -> list[int]:
    """An entry that asks for an identifier, and one that brings it, come to one resource."""
    brought: dict[tuple[str, tuple[str, str]], set[Key | None]] = {}
    for ask, due in zip(asks, meant, strict=True):
        if ask.tree is not None and _is_write(ask, due):
            for one in identifiers(ask.tree):
                brought.setdefault((ask.type, one), set()).add(due.key)
    for ask, due in zip(asks, meant, strict=True):
        wanted = identifier_of(ask.condition or "")
        if wanted and ask.method != "DELETE" and brought.get((ask.type, wanted), set()) - {due.key}:
            return [422]
    return []


def _resolved(value: Any, literal: dict[str, str], after: State) -> Any:
    """The same with literal references."""
    if isinstance(value, dict):
        return {
            name: _literal(one, literal, after) if name == "reference" else _resolved(one, literal, after)
            for name, one in value.items()
        }
    return [_resolved(one, literal, after) for one in value] if isinstance(value, list) else value


def _literal(text: str, literal: dict[str, str], after: State) -> str:
    if text.startswith("urn:"):
        if text not in literal:
            raise Refused(422)
        return literal[text]
    type, mark, query = text.partition("?")
    if not mark:
        return text
    found = after.matching(type, query)
    if len(found) != 1:
        raise Refused(412)
    return "/".join(found[0])
