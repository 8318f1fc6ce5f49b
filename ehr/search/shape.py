"""What a search asks of rows, every value taken out: the key under which its SQL is kept.

Out:     trees of nodes, equal where the SQL is equal; a Slot is the place of a value among Values. Nobody changes a
         node after it is made; not frozen, because a frozen one takes three times as long, and a search makes a dozen
Why:     to build and compile a statement costs more than to run it. ehr.search.lower makes a shape and its values,
         ehr.search.compile SQL of the shape alone. What compile cannot see cannot change the SQL: the key is complete
Keeps:   type and parameter numbers are values too, so that a search by code is one statement for every type
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ehr.search.terms import How, Prefix

Slot: TypeAlias = int


@dataclass(slots=True)
class Values:
    """Values of one statement in the order they were met."""

    all: list[Any] = field(default_factory=list)

    def add(self, value: Any) -> Slot:
        self.all.append(value)
        return len(self.all) - 1


@dataclass(slots=True, unsafe_hash=True)
class Wanted:
    """One value or a list: "= value" lets an index give its order, "= ANY(list)" does not."""

    at: Slot
    many: bool


# -- conditions on a row of resource -----------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class Never:
    """No row."""


@dataclass(slots=True, unsafe_hash=True)
class Typed:
    types: Wanted


@dataclass(slots=True, unsafe_hash=True)
class Seen:
    """The access condition of a caller confined to a person: its shards; its open types; its own Person."""

    person: Slot
    open_types: Slot | None
    own: bool


@dataclass(slots=True, unsafe_hash=True)
class OfPerson:
    """Rows of a person's shards."""

    person: Slot


@dataclass(slots=True, unsafe_hash=True)
class Sharded:
    shards: Wanted


@dataclass(slots=True, unsafe_hash=True)
class Tokens:
    """all: every hash is among the row's tokens; any: one is; none: none is."""

    which: Literal["all", "any", "none"]
    hashes: Slot


@dataclass(slots=True, unsafe_hash=True)
class Stated:
    """Whether the row has a value for one of these parameters; hashes: as rows say it that have no outline."""

    there: bool
    parameters: Slot
    hashes: Slot


@dataclass(slots=True, unsafe_hash=True)
class Identified:
    ids: Wanted


@dataclass(slots=True, unsafe_hash=True)
class Compared:
    """A range against the range first to last (for numbers: what the prefix makes of a number; last may be unused)."""

    prefix: Prefix
    first: Slot
    last: Slot


@dataclass(slots=True, unsafe_hash=True)
class Updated:
    values: tuple[Compared, ...]


@dataclass(slots=True, unsafe_hash=True)
class MainDate:
    values: tuple[Compared, ...]


@dataclass(slots=True, unsafe_hash=True)
class Begins:
    """A text, or a part of one, from first up to what comes after all that begins so; exact: or the text alone."""

    first: Slot
    after: Slot | None
    exact: Slot | None = None


@dataclass(slots=True, unsafe_hash=True)
class Contains:
    """at_end: the text ends with it."""

    pattern: Slot
    at_end: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Same:
    """The whole text."""

    text: Slot


@dataclass(slots=True, unsafe_hash=True)
class Near:
    """A circle on Earth, and the box around it: from and to in degrees of latitude, in microdegrees of longitude."""

    latitude: Slot
    longitude: Slot
    metres: Slot
    latitudes: tuple[Slot, Slot]
    longitudes: tuple[Slot, Slot]


@dataclass(slots=True, unsafe_hash=True)
class Measured:
    """A number; its unit's code and system where they were given (of a composite: its second number, its token)."""

    number: Compared
    code: Slot | Compared | None = None
    system: Wanted | None = None


@dataclass(slots=True, unsafe_hash=True)
class Listed:
    """Rows that a side table lists: by these parameters, with one of these values."""

    table: Literal["string", "date", "quantity"]
    parameters: Wanted
    values: tuple["Begins | Contains | Same | Compared | Measured | Near", ...]


@dataclass(slots=True, unsafe_hash=True)
class Either:
    """One of these; each is an AND."""

    alternatives: tuple[tuple["Clause", ...], ...]


@dataclass(slots=True, unsafe_hash=True)
class Unlike:
    """Rows for which these do not all hold."""

    clauses: tuple["Clause", ...]


@dataclass(slots=True, unsafe_hash=True)
class Part:
    """A reference parameter: what salts its tokens, and its number within the type."""

    salt: Slot
    number: Slot


@dataclass(slots=True, unsafe_hash=True)
class Chained:
    """The row refers to a resource for which one of the links holds.

    types  of the rows, where they are joined
    few    so few that their shards are looked up first
    """

    how: How
    parts: tuple[Part, ...]
    links: tuple[tuple["Clause", ...], ...]
    types: Typed | None = None
    few: bool = False


@dataclass(slots=True, unsafe_hash=True)
class Coded:
    """A code in the index of codes of a partition: its token as the first coding, and as a further one."""

    partition: str
    first: Slot
    further: Slot


@dataclass(slots=True, unsafe_hash=True)
class Pointed:
    """A resource for which the clauses hold refers to the row (_has); how as in Chained.

    coded  they say no more than that it has this code; few: so few patients have it that they are looked up first
    """

    how: How
    parts: tuple[Part, ...]
    clauses: tuple["Clause", ...]
    coded: Coded | None = None
    few: bool = False


@dataclass(slots=True, unsafe_hash=True)
class HasDate:
    """Whether the row has a main date."""

    there: bool


@dataclass(slots=True, unsafe_hash=True)
class Numbered:
    """Rows by their rids."""

    rids: Slot


@dataclass(slots=True, unsafe_hash=True)
class NotAfter:
    """Rows made before a page was first read. contained: the same of contained ones, whose numbers are beyond."""

    rid_max: Slot
    contained: tuple[Slot, Slot] | None = None


@dataclass(slots=True, unsafe_hash=True)
class Unchanged:
    """Rows that stand as a snapshot saw them."""

    since: Slot


@dataclass(slots=True, unsafe_hash=True)
class Held:
    """Resources with an address of their own, and those that resources of these types contain."""

    types: Slot


@dataclass(slots=True, unsafe_hash=True)
class Foremost:
    """Of what one resource contains only the first with these clauses, and none if they hold for it, too; own: what
    must hold for the container (None: it is not asked)."""

    clauses: tuple["Clause", ...]
    own: tuple["Clause", ...] | None


@dataclass(slots=True, unsafe_hash=True)
class From:
    """Rows that a facility sent."""

    source: Slot


Clause: TypeAlias = (
    Never | Typed | Seen | OfPerson | Sharded | Tokens | Stated | Identified | Updated | MainDate | Listed | Either
    | Unlike | Chained | Pointed | HasDate | Numbered | NotAfter | Unchanged | From | Held | Foremost
)  # fmt: skip
