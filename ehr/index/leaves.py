"""One element value → its index entries: what the generated extractors call where a path ends.

In:      an element of the static type in the function's name; anything of another shape is passed over
Out:     added to the sets of one resource: token hashes, (param_id, folded text), (param_id, lo, hi),
         (param_id, number, unit hash, unit system hash); and terms nobody has kept yet (ehr.index.term)
Cost:    codes, units and references repeat, so their hashes are kept (bounded); identifiers are not
Source:  FHIR R4 3.1.1.4.4 to 3.1.1.4.12, the element types of each kind of parameter
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from ehr.index import meta
from ehr.index.hashing import CACHE_MAX, Hasher, code_form, token_form
from ehr.index.normalize import VALUE_CHARACTERS_MAX, contact, fold
from ehr.index.numbers import number_of, quantity_number
from ehr.index.ranges import Range, date_range, period_range
from ehr.index.references import References
from ehr.index.term import UNIT, Term
from ehr.index.words import narrative, sounds, words

Update = Callable[[Iterable[int]], None]
Rows = set[tuple[Any, ...]]

_NAME_PARTS: Final = ("family", "given", "prefix", "suffix", "text")
_ADDRESS_PARTS: Final = ("line", "city", "district", "state", "postalCode", "country", "text")
UCUM: Final = "http://unitsofmeasure.org"
MICRODEGREES: Final = 1_000_000
UNIT_CHARACTERS_MAX: Final = 64
"""Longer units are in nobody's table."""


class Leaves:
    def __init__(self, hasher: Hasher, *, gathers: bool = False) -> None:
        """gathers: terms are left in here until all resources are written together, and count as kept meanwhile."""
        self.hasher = hasher
        self.references = References(hasher)
        self.gathers = gathers
        self._codings: dict[tuple[Any, ...], tuple[int, ...]] = {}
        self._units: dict[tuple[Any, ...], tuple[int, int]] = {}
        self.kept: set[Term] = set()
        self.terms: set[Term] = set()

    def namespace(self) -> dict[str, Any]:
        """Globals of the generated functions: what is known already is looked up there, without a call."""
        shared = {"references": self.references, "targets": self.hasher.targets, "date_range": date_range}
        return {"leaves": self, "known": self._codings, **shared}

    # -- token ---------------------------------------------------------------------------------------------

    def coding(self, update: Update, value: Any, param_id: int) -> None:
        if value.__class__ is dict:
            key = (param_id, value.get("system"), value.get("code"), value.get("display"))
            try:
                update(self._codings[key])
            except (KeyError, TypeError):  # not seen yet, or not hashable: not a Coding
                update(self._coding_hashes(*key))

    def concept(self, update: Update, value: Any, param_id: int) -> None:
        """A CodeableConcept."""
        if value.__class__ is dict:
            if (text := value.get("text")) is not None:
                self.text(update, text, param_id)
            codings = value.get("coding")
            for coding in codings if codings.__class__ is list else ():
                self.coding(update, coding, param_id)

    def text(self, update: Update, text: Any, param_id: int) -> None:
        """CodeableConcept.text: a Coding that has nothing but a display."""
        update(self._coding_hashes(param_id, None, None, text))

    def _coding_hashes(self, param_id: int, system: object, code: object, display: object) -> tuple[int, ...]:
        named = system if isinstance(system, str) and system else None
        hashes: tuple[int, ...] = (self.hasher.system(param_id, named),) if named else ()
        kept = True
        if isinstance(code, str) and code:
            hashes += (self.hasher.code(param_id, code), token := self.hasher.token(param_id, named, code))
            kept = param_id not in meta.CODED or self.is_kept((meta.BESIDE + param_id, str(token)))
        if isinstance(display, str) and (folded := fold(display)[:VALUE_CHARACTERS_MAX]):
            hashes += (self.hasher.text(param_id, folded),)
            kept = self.is_kept((param_id, folded)) and kept
        if hashes and kept and all(one is None or isinstance(one, str) for one in (system, code, display)):
            if len(self._codings) >= CACHE_MAX:
                self._codings.clear()
            self._codings[param_id, system, code, display] = hashes
        return hashes

    def is_kept(self, term: Term) -> bool:
        """Else the term goes with the resource to whoever writes it."""
        if term in self.kept:
            return True
        self.terms.add(term)
        return self.gathers

    def identifier(self, update: Update, value: Any, param_id: int) -> None:
        if value.__class__ is dict:
            system, text = value.get("system"), value.get("value")
            named = system if isinstance(system, str) and system else None
            if isinstance(text, str) and text:
                update((self.hasher.code(param_id, text), self.hasher.token(param_id, named, text)))
            if named:
                update((self.hasher.system(param_id, named),))
            if "type" in value and (type_ := value["type"]).__class__ is dict:
                self._identifier_type(update, type_, text, param_id)

    def _identifier_type(self, update: Update, type_: dict[str, Any], value: Any, param_id: int) -> None:
        """Identifier.type: its text for :text, its codes with the value for :of-type."""
        self.text(update, type_.get("text"), param_id)
        codings = type_.get("coding")
        for coding in codings if codings.__class__ is list else ():
            if coding.__class__ is dict and isinstance(code := coding.get("code"), str) and isinstance(value, str):
                system = coding.get("system")
                named = system if isinstance(system, str) else None
                update((self.hasher.of_type(param_id, named, code, value),))

    def contact_point(self, update: Update, value: Any, param_id: int) -> None:
        if value.__class__ is dict and isinstance(text := value.get("value"), str):
            update((self.hasher.code(param_id, contact(text)),))

    def code(self, update: Update, value: Any, param_id: int) -> None:
        """code, string, id, uri: elements that have no system of their own."""
        if value.__class__ is str and value:
            key = (param_id, None, value, 0)
            try:
                update(self._codings[key])
            except KeyError:
                hashes = (self.hasher.code(param_id, value),)
                if len(value) <= 32 and len(self._codings) < CACHE_MAX:
                    self._codings[key] = hashes
                update(hashes)

    def boolean(self, update: Update, value: Any, param_id: int) -> None:
        if value is True or value is False:
            self.code(update, "true" if value else "false", param_id)

    def deceased(self, update: Update, tree: dict[str, Any], param_id: int) -> None:
        """Patient.deceased.exists() and Patient.deceased != false: true or false, never missing."""
        self.boolean(update, bool(tree.get("deceasedBoolean") is True or tree.get("deceasedDateTime")), param_id)

    # -- uri ---------------------------------------------------------------------------------

    def canonical(self, update: Update, value: Any, param_id: int) -> None:
        """Found with and without its version."""
        if value.__class__ is str and value:
            update((self.hasher.uri(param_id, value),))
            if "|" in value:
                update((self.hasher.uri(param_id, value.partition("|")[0]),))

    def profile(self, update: Update, value: Any, param_id: int) -> None:
        """meta.profile: on every resource, so its text is a term and not a row, for :below."""
        if value.__class__ is str and value:
            try:
                update(self._codings[param_id, None, value, 0])
            except KeyError:
                hashes, terms = meta.profile(self.hasher, value)
                if not [term for term in terms if not self.is_kept(term)] and len(self._codings) < CACHE_MAX:
                    self._codings[param_id, None, value, 0] = hashes
                update(hashes)

    def uri(self, update: Update, strings: Rows, value: Any, param_id: int) -> None:
        """The text itself is kept too, for :below."""
        self.canonical(update, value, param_id)
        if value.__class__ is str and value:
            strings.add((param_id, value[:VALUE_CHARACTERS_MAX]))

    # -- string --------------------------------------------------------------------------------------------

    def string(self, update: Update, strings: Rows, value: Any, param_id: int) -> None:
        if value.__class__ is str and (folded := fold(value)):
            strings.add((param_id, folded[:VALUE_CHARACTERS_MAX]))
            update((self.hasher.exact(param_id, value),))

    def human_name(self, update: Update, strings: Rows, value: Any, param_id: int) -> None:
        """Every part, and the whole name in both orders: people type "Nguyễn Văn An" into one box."""
        if value.__class__ is not dict:
            return
        self._parts(update, strings, value, _NAME_PARTS, param_id)
        given = _texts(value.get("given"))
        family = value.get("family")
        if isinstance(family, str) and given:
            for whole in (" ".join([family, *given]), " ".join([*given, family])):
                strings.add((param_id, fold(whole)[:VALUE_CHARACTERS_MAX]))

    def address(self, update: Update, strings: Rows, value: Any, param_id: int) -> None:
        if value.__class__ is dict:
            self._parts(update, strings, value, _ADDRESS_PARTS, param_id)

    def _parts(
        self, update: Update, strings: Rows, value: dict[str, Any], names: tuple[str, ...], param_id: int
    ) -> None:
        for name in names:
            if name in value:
                for text in _texts(value[name]):
                    self.string(update, strings, text, param_id)

    def phonetic(self, update: Update, value: Any, param_id: int) -> None:
        """Every word of a name, as it sounds."""
        texts = [value] if value.__class__ is str else []
        if value.__class__ is dict:
            texts = [text for name in _NAME_PARTS for text in _texts(value.get(name))]
        update({self.hasher.word(param_id, sound) for text in texts for one in words(text) for sound in sounds(one)})

    def narrative(self, update: Update, value: Any, param_id: int) -> None:
        if value.__class__ is dict and isinstance(div := value.get("div"), str):
            update([self.hasher.word(param_id, word) for word in narrative(div)])

    # -- date ----------------------------------------------------------------------------------------------

    def period(self, value: Any) -> Range | None:
        return period_range(value.get("start"), value.get("end")) if value.__class__ is dict else None

    def timing(self, value: Any) -> Range | None:
        """The outer limits of all that is scheduled (R4 3.1.1.4.7)."""
        if value.__class__ is not dict:
            return None
        ranges = [found for text in _texts(value.get("event")) if (found := date_range(text))]
        repeat = value.get("repeat")
        if repeat.__class__ is dict and (bounds := self.period(repeat.get("boundsPeriod"))):
            ranges.append(bounds)
        return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None

    # -- number and quantity -------------------------------------------------------------------------------

    def number(self, numbers: Rows, value: Any, param_id: int) -> None:
        if (found := number_of(value)) is not None:
            numbers.add((param_id, found, 0, 0))

    def quantity(self, numbers: Rows, value: Any, param_id: int) -> None:
        if value.__class__ is not dict or (number := quantity_number(value)) is None:
            return
        code, unit = value.get("code"), value.get("unit")
        numbers.add((param_id, number, *self.unit_hashes(value.get("system"), code or unit)))
        if code and unit and unit != code:
            numbers.add((param_id, number, self.unit_hashes(None, unit)[0], 0))

    def money(self, numbers: Rows, value: Any, param_id: int) -> None:
        if value.__class__ is dict and (number := number_of(value.get("value"))) is not None:
            numbers.add((param_id, number, *self.unit_hashes("urn:iso:std:iso:4217", value.get("currency"))))

    def range(self, numbers: Rows, value: Any, param_id: int) -> None:
        """Both ends; a search meets a Range where it meets one of them."""
        if value.__class__ is dict:
            self.quantity(numbers, value.get("low"), param_id)
            self.quantity(numbers, value.get("high"), param_id)

    def position(self, numbers: Rows, value: Any, param_id: int) -> None:
        """Location.position: the latitude as the number, the longitude in its unit's place."""
        if value.__class__ is dict:
            latitude, longitude = number_of(value.get("latitude")), number_of(value.get("longitude"))
            if latitude is not None and longitude is not None and abs(latitude) <= 90 and abs(longitude) <= 180:
                numbers.add((param_id, latitude, round(longitude * MICRODEGREES), 0))

    def unit_hashes(self, system: object, code: object) -> tuple[int, int]:
        """(hash of the unit, hash of its system); 0 where absent."""
        key = (system, code)
        try:
            return self._units[key]
        except (KeyError, TypeError):
            made = (
                self.hasher.unit(None, code) if isinstance(code, str) and code else 0,
                self.hasher.unit(system, "") if isinstance(system, str) and system else 0,
            )
            measured = system == UCUM and isinstance(code, str) and 0 < len(code) <= UNIT_CHARACTERS_MAX
            if measured and not self.is_kept((UNIT, str(code))):
                return made
            if isinstance(code, str) and len(self._units) < CACHE_MAX and (system is None or isinstance(system, str)):
                self._units[key] = made
            return made

    # -- composite -----------------------------------------------------------------------------------------

    def forms(self, value: Any, type_name: str) -> list[str]:
        """Text forms of a token or reference component (hashing.code_form, token_form)."""
        if type_name == "CodeableConcept" and value.__class__ is dict:
            codings = value.get("coding")
            return [form for coding in (codings if codings.__class__ is list else ()) for form in _coding_forms(coding)]
        if type_name == "Coding":
            return _coding_forms(value)
        if type_name == "Reference" and value.__class__ is dict:
            text = value.get("reference")
            target = self.references.target(text) if isinstance(text, str) else None
            return [f"r{target}"] if target is not None else []
        if value is True or value is False:
            return [code_form("true" if value else "false")]
        return [code_form(value)] if isinstance(value, str) and value else []

    def pairs(self, update: Update, firsts: list[str], seconds: list[str], param_id: int) -> None:
        update([self.hasher.pair(param_id, first, second) for first in firsts for second in seconds])

    def measured(self, numbers: Rows, firsts: list[str], rows: Rows, param_id: int) -> None:
        """A token with a quantity: the unit column holds the unit, with and without system; the other the token."""
        for _, number, code, system in rows:
            for first in firsts:
                token = self.hasher.unit(None, first)
                numbers.add((param_id, number, code, token))
                if code and system:
                    numbers.add((param_id, number, code ^ system, token))

    def spanned(self, numbers: Rows, firsts: list[str], start: object, end: object, param_id: int) -> bool:
        """A token with the first and the last of a row of whole numbers: the unit column holds the last."""
        first, last = number_of(start), number_of(end)
        if first is None or last is None or last != int(last):
            return False
        numbers.update((param_id, first, int(last), self.hasher.unit(None, form)) for form in firsts)
        return bool(firsts)


def _coding_forms(value: Any) -> list[str]:
    if value.__class__ is not dict or not isinstance(code := value.get("code"), str):
        return []
    system = value.get("system")
    return [code_form(code), token_form(system if isinstance(system, str) else None, code)]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
