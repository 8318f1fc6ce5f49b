"""Say who looked at a record, line by line: who and where, what, why, how often.

In:      Looks of the audit (ehr.audit.access_log), newest day first; whose page it is
Out:     lines for the template; page_of(): whole days, until a page is full, and the day the next page begins before
"""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from ehr.audit.access_log import Look
from ehr.web.phrases import Language, phrase

LINES_MAX: Final = 200
"""Of one page of the log: about 40 kB."""


def opened(look: Look) -> bool:
    """Somebody else read it; what a facility or the city wrote is in the list, but nobody opened anything."""
    return look.actor_kind not in ("citizen", "system") and look.action in ("R", "S", "E") and not look.refused


def lines(looks: Sequence[Look], language: Language, person_id: str | None) -> list[dict[str, Any]]:
    """Looks that read the same, as those of two tasks of the city, are one line."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for look in looks:
        who = _who(look, language, person_id)
        told = {name: getattr(look, name) for name in ("day", "action", "purpose", "refused")}
        line = found.setdefault((who, *told.values()), {**told, "who": who, "times": 0})
        line["times"] += look.times
    return list(found.values())


def page_of(told: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], date | None]:
    """The newest days that fit a page, one at least; the last of them where more follow."""
    if len(told) <= LINES_MAX:
        return told, None
    cut = told[LINES_MAX]["day"]
    shown = [line for line in told if line["day"] > cut] or [line for line in told if line["day"] == cut]
    return shown, shown[-1]["day"]


def _who(look: Look, language: Language, person_id: str | None) -> str:
    if look.actor_kind == "citizen":
        return phrase("you" if look.actor == person_id or not look.refused else "another_citizen", language)
    if look.actor_kind == "system":
        return look.facility or phrase("the_city", language)
    return " · ".join(filter(None, (look.facility, look.actor)))
