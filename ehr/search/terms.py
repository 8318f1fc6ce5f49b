"""What a query says once it is understood: conditions, sort keys, includes and the shape of the answer.

Values    one per comma of a parameter; a Criterion's values are an OR, a request's conditions an AND
Source:   FHIR R4 3.1.1.3 to 3.1.1.5
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from ehr.errors import Issue
from ehr.fhir import parameters
from ehr.fhir.parameters import Parameter, Parameters

if TYPE_CHECKING:
    from ehr.search.anyone import Anyone
    from ehr.search.plan import SearchPlan

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap", "po"]
"""po: the periods overlap; only _filter says it."""
Direction = Literal["asc", "desc"]
Rows = Literal["own", "contained", "both"]
"""Which resources a search looks at: those with an address of their own, those inside others, or both."""

How = Literal["shard", "inside", "tokens", "walk", "each", "join"]
"""What a chain or _has is answered by. shard: the target decides the shard; inside: that, or the row contains one;
tokens: look up what the targets would be called; walk: hash the targets and look among them for what each row refers
to; each: look up what each row refers to; join: match all rows with all targets at once, on disk where memory is too
small."""


@dataclass(frozen=True, slots=True)
class TokenValue:
    """system None: any system; "": it must have none; code None: any code of the system."""

    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class StringValue:
    text: str


@dataclass(frozen=True, slots=True)
class UriValue:
    text: str


@dataclass(frozen=True, slots=True)
class DateValue:
    """The range a date text means, both ends included, in microseconds."""

    prefix: Prefix
    low_us: int
    high_us: int


@dataclass(frozen=True, slots=True)
class NumberValue:
    """A number, the range its digits or the prefix ap mean (low included), and for quantities its unit.

    system None: any; code None: any unit
    """

    prefix: Prefix
    number: float
    low: float
    high: float
    system: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """A local Type/id, for each type it may be; or the text of any other reference."""

    locals: tuple[tuple[str, str], ...] = ()
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class TextValue:
    """A text as term holds it, whole (ehr.search.resolve finds those that begin as asked)."""

    folded: str


@dataclass(frozen=True, slots=True)
class WordValue:
    """One word of a text, or its sound (ehr.index.words)."""

    word: str


@dataclass(frozen=True, slots=True)
class TypedIdentifierValue:
    """:of-type: an identifier by its type and value."""

    system: str
    code: str
    value: str


@dataclass(frozen=True, slots=True)
class NearValue:
    """A place on Earth in degrees, and how far around it in metres."""

    latitude: float
    longitude: float
    metres: float


@dataclass(frozen=True, slots=True)
class CompositeValue:
    parts: tuple["Value", ...]


Value = (
    TokenValue
    | StringValue
    | UriValue
    | DateValue
    | NumberValue
    | ReferenceValue
    | TextValue
    | WordValue
    | TypedIdentifierValue
    | NearValue
    | CompositeValue
)


@dataclass(frozen=True, slots=True)
class Criterion:
    """parameter[:modifier]=value,value. type_name: the type it is asked of ("Resource": of any)."""

    type_name: str
    parameter: Parameter
    modifier: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """outlines: tokens of those that have a value for it, where they were looked up before (ehr.search.resolve)."""

    type_name: str
    parameter: Parameter
    missing: bool
    outlines: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ids:
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Updated:
    values: tuple[DateValue, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """parameter.inner: one link for each type the reference may point to."""

    type_name: str
    parameter: Parameter
    links: tuple[tuple[str, "Condition"], ...]
    typed: bool


@dataclass(frozen=True, slots=True)
class Has:
    """_has:source:parameter:inner"""

    type_name: str
    source: str
    parameter: Parameter
    inner: "Condition"


@dataclass(frozen=True, slots=True)
class InList:
    """_list: entries of these Lists refer to the resource, not only those that are marked as deleted."""

    ids: tuple[str, ...]
    has: Has


@dataclass(frozen=True, slots=True)
class Selves:
    """One of these resources: types and ids."""

    references: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    condition: "Condition"


@dataclass(frozen=True, slots=True)
class PerType:
    """A parameter that several types share: of each what it asks there."""

    conditions: tuple[tuple[str, "Condition"], ...]


Condition = Criterion | Missing | Ids | Updated | Chain | Has | InList | Selves | AllOf | AnyOf | Not | PerType


def rebuilt(condition: Condition, change: Callable[[Condition], Condition]) -> Condition:
    """The same around changed conditions; one that has none inside stays."""
    found = condition
    match condition:
        case Chain(links=links):
            found = replace(condition, links=tuple((name, change(one)) for name, one in links))
        case Has(inner=inner):
            found = replace(condition, inner=change(inner))
        case InList(has=has):
            inside = change(has)
            assert isinstance(inside, Has), "it stays what it is"
            found = replace(condition, has=inside)
        case AllOf(conditions) | AnyOf(conditions):
            found = replace(condition, conditions=tuple(change(one) for one in conditions))
        case PerType(conditions=shared):
            found = PerType(tuple((name, change(one)) for name, one in shared))
        case Not(inner):
            found = Not(change(inner))
    return found


@dataclass(frozen=True, slots=True)
class SortKey:
    parameter: Parameter
    direction: Direction


@dataclass(frozen=True, slots=True)
class Include:
    """_include (reverse False) or _revinclude. parameter None: every reference ("*"); target None: every type."""

    reverse: bool
    source: str
    parameter: Parameter | None
    target: str | None
    iterate: bool


@dataclass(frozen=True, slots=True)
class Compartment:
    """Patient, Encounter, Practitioner, Device, RelatedPerson, or Person: all source Patients of a person."""

    name: str
    id: str


class SearchRequest(Struct, eq=False):
    """One search as it will be run. Another patient's is made of it for each request: a struct, which is copied fast.

    type_name  None: of several types (types)
    types      the types searched; empty with type_name None: all that the caller may search
    named      _type names them: what all of them have may be asked
    content    what _content asks of the words of a resource
    contained  whether contained resources are searched: not, alone, or with the others; and what is shown of those
    served     the parameters that count, in their order, as the self link repeats them
    known      the table its parameters were looked up in
    ignored    what lenient handling left out, one issue a parameter with its name in `at`
    plans      made of it so far, one for each caller's rights (ehr.search.plan)
    anyone     the search it was made of with the id of a patient, and that id (ehr.search.anyone)
    """

    type_name: str | None
    types: tuple[str, ...]
    named: bool = False
    compartment: Compartment | None = None
    conditions: list[Condition] = []
    content: list[Condition] = []
    sort: list[SortKey] = []
    includes: list[Include] = []
    count: int = 0
    total: Literal["none", "estimate", "accurate"] = "none"
    summary: str | None = None
    elements: tuple[str, ...] = ()
    cursor: str | None = None
    contained: Rows = "own"
    contained_type: Literal["container", "contained"] = "container"
    served: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    known: Parameters = parameters.R4
    plans: "list[SearchPlan]" = []
    anyone: "Anyone | None" = None
    patient: str = ""

    @property
    def of(self) -> str:
        """The one type whose parameters are asked; "Resource" for several."""
        return self.types[0] if len(self.types) == 1 else parameters.COMMON
