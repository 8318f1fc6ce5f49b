"""How the demo looks: what was seen of the city → a line, or tiles and a table for a terminal."""

from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from ehr.clock import ICT
from ehr.store.ledger import FacilityStatus

SHOWN: Final = 12
"""Facilities in the table."""
_COLUMNS: Final = {"code": 5, "facility": 0, "feed": 9, "last": 8, "waiting": 7, "a minute": 8, "refused": 7}
"""Columns of the table and the least they need; the facility's name takes what is left."""


@dataclass(slots=True)
class Seen:
    """What the screen shows: the traffic's own standing, the ledger's, and the counts of the record."""

    traffic: dict[str, Any] = field(default_factory=dict)
    facilities: list[FacilityStatus] = field(default_factory=list)
    headline: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    persons: list[str] = field(default_factory=list)


def plain(seen: Seen) -> str:
    """One line."""
    traffic, counts = seen.traffic, seen.counts
    return (
        f"{traffic.get('phase', 'starting')} sent {traffic.get('sent', 0)} accepted {traffic.get('accepted', 0)} "
        f"refused {traffic.get('refused', 0)} p50 {traffic.get('p50_ms')} ms · heard {seen.headline['heard']:.0f}/"
        f"{seen.headline['count']:.0f} oldest {seen.headline['oldest_age_s']:.1f} s · patients {counts['patients']} "
        f"persons {counts['persons']} encounters {counts['encounters']} · insurer accepted {counts['accepted']} "
        f"rejected {counts['rejected']} pending {counts['pending']}"
    )


def tiles(seen: Seen) -> Table:
    """The sums of all."""
    traffic, counts, now = seen.traffic, seen.counts, seen.headline
    rate = float(traffic.get("sent") or 0) / max(1.0, float(traffic.get("seconds") or 0))
    shown = Table.grid(padding=(0, 3))
    for _ in range(4):
        shown.add_column()
    shown.add_row(
        f"sent [b]{traffic.get('sent', 0):,}[/b] ({rate:.0f}/s)",
        f"accepted [b green]{traffic.get('accepted', 0):,}[/b green]",
        f"refused [b red]{traffic.get('refused', 0):,}[/b red]",
        f"answer p50/p95 [b]{traffic.get('p50_ms')}/{traffic.get('p95_ms')}[/b] ms",
    )
    shown.add_row(
        f"heard from [b]{now['heard']:.0f}/{now['count']:.0f}[/b]",
        f"oldest undelivered [b]{now['oldest_age_s']:.1f}[/b] s",
        f"patients [b]{counts['patients']:,}[/b] persons [b]{counts['persons']:,}[/b]",
        f"encounters [b]{counts['encounters']:,}[/b]",
    )
    shown.add_row(
        f"insurer accepted [b green]{counts['accepted']:,}[/b green]",
        f"rejected [b red]{counts['rejected']:,}[/b red]",
        f"pending [b]{counts['pending']:,}[/b]",
        f"accepted [b]{counts['dong']:,.0f}[/b] đ",
    )
    return shown


def table(seen: Seen) -> Table:
    """The facilities that matter now: first those with something waiting, then those heard from last."""
    shown = Table(expand=True)
    for name, width in _COLUMNS.items():
        shown.add_column(name, no_wrap=True, min_width=width, ratio=None if width else 1)
    heard = [(one, one.last_received) for one in seen.facilities if one.last_received is not None]
    heard.sort(key=lambda pair: (pair[0].waiting == 0, -pair[1].timestamp()))
    for one, last in heard[:SHOWN]:
        shown.add_row(
            one.code,
            one.name,
            one.feed,
            last.astimezone(ICT).strftime("%H:%M:%S"),
            Text(str(one.waiting), style="red" if one.waiting else ""),
            f"{one.rate_per_minute:.1f}",
            Text(str(one.refused), style="red" if one.refused else ""),
        )
    return shown
