"""Resource → index rows, by functions generated from the R4 SearchParameters. Pure.

In:      tree of one resource as any JSON reader gives it (float or Decimal), its type and id
Out:     IndexRows: the columns shard, tokens, date_lo_us, date_hi_us of resource, and rows of the three side tables
Keeps:   nothing; lenient about shapes the validator would refuse, so that one odd value never loses the rest
Version: of the table of parameters the rows were made by; who writes them says it, and is refused when there is a newer
         one (docs/adr/0093)
Cost:    generated at first use of a type (about 5 ms), then 6 to 10 µs a resource (benchmarks/extract.py)
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any

from msgspec import Struct

from ehr.fhir import parameters
from ehr.fhir.compartments import patient_of
from ehr.fhir.parameters import Parameters
from ehr.fhir.r4 import TYPE_IDS
from ehr.index.generate import source
from ehr.index.hashing import TARGET_MASK, Hasher
from ehr.index.leaves import Leaves, Rows
from ehr.index.main_code import MainCodes, main_code
from ehr.index.outline import Outlines, stated
from ehr.index.term import KEPT_MAX, Term

Generated = Callable[[Mapping[str, Any], list[int], Rows, Rows, Rows], tuple[int | None, int | None]]


class IndexRows(Struct, gc=False):
    """What one resource puts into the index. A Struct, because it is made in a third of a dataclass's time.

    tokens      signed 64-bit hashes; the first is the resource's own (hashing: self)
    placed      how many of them have their place: that one, and in types that are listed by a code the code's
    strings     (param_id, folded text)
    dates       (param_id, lo_us, hi_us), other than the type's main date
    quantities  (param_id, value, unit hash or 0, unit system hash or 0)
    patient     id of the source Patient it belongs to; the shard is that of it
    terms       (param_id, folded text), (0, unit) or (-param_id, outline) that no earlier resource of this process has
                left in term
    contained   the same of each contained resource, in the container's shard; its terms are among the container's
    """

    shard: int
    tokens: list[int]
    strings: Sequence[tuple[int, str]] = ()
    dates: Sequence[tuple[int, int, int]] = ()
    quantities: Sequence[tuple[int, float, int, int]] = ()
    date_lo_us: int | None = None
    date_hi_us: int | None = None
    version: int = 0
    patient: str | None = None
    terms: Collection[Term] = ()
    contained: Sequence["Contained"] = ()
    placed: int = 1

    def side_of(self, param_ids: Container[int]) -> "IndexRows":
        """The rows of the side tables that belong to these parameters."""
        strings = [row for row in self.strings if row[0] in param_ids]
        dates = [row for row in self.dates if row[0] in param_ids]
        return IndexRows(self.shard, [], strings, dates, [row for row in self.quantities if row[0] in param_ids])


class Contained(Struct, frozen=True, gc=False):
    """What one contained resource puts into the index. place: among all that are contained, from 0."""

    place: int
    type_name: str
    id: str
    rows: IndexRows


class Extractor:
    def __init__(
        self, hasher: Hasher, known: Parameters = parameters.R4, version: int = 0, *, leaves: Leaves | None = None
    ) -> None:
        self.hasher = hasher
        self.known, self.version = known, version
        self._leaves = leaves or Leaves(hasher)
        self._codes: dict[str, CodeType] = {}
        self._functions: dict[str, tuple[Generated, MainCodes | None]] = {}

    def revised(self, known: Parameters, version: int) -> "Extractor":
        """Another for a changed table: the types that did not change keep their functions, and all their hashes."""
        made = Extractor(self.hasher, known, version, leaves=self._leaves)
        same = {name for name in self._codes if known.added_to(name) == self.known.added_to(name)}
        made._codes = {name: code for name, code in self._codes.items() if name in same}
        made._functions = {name: function for name, function in self._functions.items() if name in same}
        return made

    def apart(self) -> "Extractor":
        """Another for resources that are all written in one transaction: their terms are gathered (new_terms)."""
        made = Extractor(self.hasher, self.known, self.version, leaves=Leaves(self.hasher, gathers=True))
        made._codes = self._codes
        return made

    def extract(self, tree: Mapping[str, Any], type_name: str, id: str, within: str | None = None) -> IndexRows:
        """within: the container's "Type/id", where the resource is a contained one."""
        function, codes = self._functions.get(type_name) or self._generate(type_name)
        leaves, hasher = self._leaves, self.hasher
        whole = f"{type_name}/{id}"
        leaves.references.whole = within or whole
        if within is None:
            leaves.references.contained = tree.get("contained")
        hashes: list[int] = []  # a list grows faster than a set
        strings: Rows = set()
        dates: Rows = set()
        numbers: Rows = set()
        low, high = function(tree, hashes, strings, dates, numbers)
        place = hasher.digest(whole)  # not looked up: each resource has its own
        own = place & TARGET_MASK
        tokens = set(hashes)
        tokens.discard(own)
        placed = [own]
        if codes is not None and within is None:
            first, further = codes.of(tree)
            if further:
                tokens.update(further)
            if first is not None:
                placed.append(first)
                tokens.discard(first)
        patient = id if type_name == "Patient" else patient_of(tree)
        made = IndexRows(
            hasher.shard("Patient", patient) if patient else place,
            [*placed, *tokens],
            tuple(strings) if strings else (),
            tuple(dates) if dates else (),
            tuple(numbers) if numbers else (),
            low,
            high,
            self.version,
            patient,
            placed=len(placed),
        )
        if leaves.terms and not leaves.gathers:
            made.terms, leaves.terms = leaves.terms, set()
        if within is None and "contained" in tree:
            self._add_contained(made, tree["contained"], whole)
        return made

    def _add_contained(self, made: IndexRows, inside: Any, whole: str) -> None:
        found: list[Contained] = []
        for place, one in enumerate(inside if inside.__class__ is list else ()):
            if one.__class__ is not dict or (name := one.get("resourceType")) not in TYPE_IDS:
                continue
            if not isinstance(id := one.get("id"), str) or not id:
                continue
            rows = self.extract(one, name, id, within=whole)
            rows.shard, rows.tokens[0] = made.shard, self.hasher.contained(whole, id)
            if rows.terms:
                made.terms = {*made.terms, *rows.terms}
            found.append(Contained(place, name, id, rows))
        made.contained = found

    def new_terms(self, gathered: "Extractor") -> set[Term]:
        """Terms another one has gathered, that are not known to be kept."""
        return gathered._leaves.terms - self._leaves.kept

    def keep(self, terms: Iterable[Term]) -> None:
        """These terms are committed: no later resource need bring them."""
        if len(self._leaves.kept) >= KEPT_MAX:
            self._leaves.kept.clear()
        self._leaves.kept.update(terms)

    def _generate(self, type_name: str) -> tuple[Generated, MainCodes | None]:
        code = self._codes.get(type_name)
        if code is None:
            text = source(type_name, self.hasher, self.known)
            code = self._codes[type_name] = compile(text, f"<index of {type_name}>", "exec")
        outlines = Outlines(self._leaves, stated(self.known, type_name))
        namespace = {**self._leaves.namespace(), "outline": outlines.token}
        exec(code, namespace)  # noqa: S102 - our own text, made from our own table
        function: Generated = namespace.pop("extract")  # else it could only be freed with all that it remembers
        coded = main_code(type_name)
        made = self._functions[type_name] = function, None if coded is None else MainCodes(self.hasher, coded)
        return made
