"""The includes of one match that are more than a page holds, page after page.

In:      Look; frames: the match, and below it the includes that are gone into in turn, each with its place
Out:     the next resources, and the frames that are left; none: all were shown
Order:   by type and number, so that a page begins after a place; each with what :iterate finds around it. A page holds
         so many of them that all this fits; where one alone has more around it, that one is gone into
Keeps:   every include is on some page. What :iterate finds around several is on each of their pages
Limits:  limits.include_depth_max frames; below, what does not fit is left out and told
Source:  FHIR R4 3.1.1.5.4 _include, http.html#paging
"""

from dataclasses import dataclass, field

from ehr import limits
from ehr.errors import Issue
from ehr.search.cursor import Frame
from ehr.search.found import Found
from ehr.search.include import Look, place_of


@dataclass(slots=True)
class Walked:
    """One page of includes. frames: where the next one begins."""

    frames: tuple[Frame, ...]
    found: list[Found] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


async def walked(look: Look, frames: tuple[Frame, ...]) -> Walked:
    page = Walked(frames)
    while page.frames and not page.found:
        page = await _page(look, page.frames)
    return page


async def _page(look: Look, frames: tuple[Frame, ...]) -> Walked:
    above, frame = frames[:-1], frames[-1]
    origin = await look.one(frame.of)
    if origin is None:  # deleted meanwhile, or no longer to be seen
        return Walked(above)
    room, lineage = limits.include_count_max, {one.of for one in frames}
    steps = look.iterated if above else look.plan.includes
    chunk = await look.beyond(origin, steps, frame.place, lineage, room + 1)
    shown = chunk[:room]
    while shown:
        seen = lineage | {one.reference for one in shown}
        around = await look.around(shown, look.iterated, seen, room - len(shown))
        if not around.over:
            left = Frame(frame.of, place_of(shown[-1]))
            return Walked((*above, left) if len(shown) < len(chunk) else above, [*shown, *around.found])
        if len(shown) == 1:
            return _gone_into((*above, Frame(frame.of, place_of(shown[0]))), shown[0], around.found)
        shown = shown[: len(shown) // 2]
    return Walked(above)


def _gone_into(left: tuple[Frame, ...], one: Found, around: list[Found]) -> Walked:
    """More lies around this one alone than a page holds."""
    if len(left) < limits.include_depth_max:
        return Walked((*left, Frame(one.reference)), [one])
    text = f"more than {limits.include_count_max} resources would be included around {one.type_name}/{one.id}"
    issue = Issue("incomplete", f"{text}; search them by themselves to see all", "_include", "warning")
    return Walked(left, [one, *around[: limits.include_count_max - 1]], [issue])
