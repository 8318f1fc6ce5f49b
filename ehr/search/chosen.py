"""The rows of one page before they are read: those in order, and those that moved; and how to show fewer of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ehr.search.cursor import Walk

if TYPE_CHECKING:
    from ehr.database.connection import Row

Placed = tuple["Row", int | list[Any] | None]
"""A row, and the phase of the order it was found in; or what was read of its place in the order."""


@dataclass(slots=True)
class Chosen:
    """The rows of a page.

    moved   rows that left their places ahead, before the rows in order
    more    there are rows beyond
    walk    how the next page goes on; None where the order never changes
    """

    placed: list[Placed]
    moved: list["Row"]
    more: bool
    walk: Walk | None

    @property
    def rows(self) -> list["Row"]:
        return [*self.moved, *[row for row, _ in self.placed]]

    def cut(self, kept: int, forward: bool, seen: str | None) -> None:
        """Show fewer: the first ones, or the last ones when going back; seen: what the page before had seen."""
        self.more = True
        if kept >= len(self.moved):
            kept -= len(self.moved)
            self.placed = self.placed[:kept] if forward else self.placed[-kept:]
            return
        assert self.walk is not None and seen is not None, "rows move in walks"  # noqa: PT018
        upto = self.walk.upto or self.walk.seen
        self.moved, self.placed = self.moved[:kept], []
        self.walk = Walk(self.walk.began, seen, upto, self.moved[-1]["rid"])
