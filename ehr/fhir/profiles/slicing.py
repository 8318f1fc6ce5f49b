"""The values of a sliced element → which of them belong to which slice.

Out:     slices with their items; problems of order and of closed slicing are said to the check
Keeps:   true, false or not known (None), as with a value set or the target of a reference that is not here: what is
         not known is no fault
Source:  FHIR R4 profiling.html#slicing
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ehr.fhir.profiles.coded import members
from ehr.fhir.profiles.core import core_type, is_a
from ehr.fhir.profiles.discriminator import ANY, Steps, items_at, steps_of, urls_of
from ehr.fhir.profiles.item import Item
from ehr.fhir.profiles.rule import Discriminator, Rule, Slicing, TypeRule
from ehr.fhir.profiles.values import has_pattern, is_fixed

if TYPE_CHECKING:
    from ehr.fhir.profiles.check import Check

DEFAULT: Final = "@default"
"""The slice of all that fits no other."""


@dataclass(slots=True)
class Slice:
    """What of an element belongs to a slice. perhaps: how many more may, by what is not known here."""

    name: str
    items: list[Item] = field(default_factory=list)
    perhaps: int = 0


def sliced(check: "Check", rule: Rule, items: Sequence[Item]) -> list[Slice]:
    """Every slice; what may be of one, and nobody here can tell, is of none and no stranger either."""
    slicing = rule.slicing or Slicing(())
    slices = [Slice(name) for name in rule.slices]
    named = [one for one in slices if one.name != DEFAULT]
    rest: list[Item] = []
    last = 0
    for item in items:
        answers = _answers(check, slicing, rule, named, item)
        place = answers.index(True) if True in answers else None
        if place is None:
            for one, answer in zip(named, answers, strict=True):
                one.perhaps += answer is None
            rest += [] if None in answers else [item]
            continue
        named[place].items.append(item)
        if slicing.ordered and place < last:
            check.say("structure", f"{named[place].name} must come before {named[last].name}", item.path)
        last = max(last, place)
        if rest and slicing.rules == "openAtEnd":
            check.say("structure", f"what is in no slice must come after {named[place].name}", rest[0].path)
    if len(named) < len(slices):
        next(one for one in slices if one.name == DEFAULT).items = rest
    elif slicing.rules == "closed":
        for item in rest:
            check.say("structure", f"must be one of the slices {', '.join(rule.slices)}, and is none", item.path)
    return slices


def _answers(check: "Check", slicing: Slicing, rule: Rule, slices: Sequence[Slice], item: Item) -> list[bool | None]:
    """Whether the item belongs to each slice, until it belongs to one."""
    looks = [_Look.at(check, one, item) for one in slicing.discriminators]
    answers: list[bool | None] = []
    for one in slices:
        part = rule.slices[one.name]
        answers.append(_all(_tells(check, look, part, item) for look in looks) if looks else check.holds(part, item))
        if answers[-1]:
            break
    return answers


@dataclass(frozen=True, slots=True)
class _Look:
    """What an item has where a discriminator looks. steps None: its path is not understood."""

    discriminator: Discriminator
    steps: Steps | None
    found: Sequence[Item]

    @classmethod
    def at(cls, check: "Check", discriminator: Discriminator, item: Item) -> "_Look":
        steps = steps_of(discriminator.path)
        if steps is None:
            check.say("not-supported", f"the discriminator {discriminator.path} is not understood", item.path)
            return cls(discriminator, None, ())
        return cls(discriminator, steps, items_at(check, item, steps))


def _tells(check: "Check", look: _Look, rule: Rule, item: Item) -> bool | None:
    if look.steps is None:
        return False
    rules = check.rules_at(rule, look.steps)
    match look.discriminator.type:
        case "exists":
            return _exists(rules, look.found)
        case "type":
            return _any(_is_of(one, each.code) for one in look.found for rule in rules for each in rule.types)
        case "profile":
            return _any(_conforms(check, each, one) for one in look.found for each in rules)
        case _ if look.discriminator.path == "url" and item.kind == "Extension":
            url = item.value.get("url")
            return isinstance(url, str) and url in urls_of(check, rule)
        case _:
            return bool(rules) and _any(_all(_has(check, rule, one) for rule in rules) for one in look.found)


def _all(answers: Iterable[bool | None]) -> bool | None:
    """None is not known: false if one is, whatever the others are."""
    is_known = True
    for answer in answers:
        if answer is False:
            return False
        is_known &= answer is not None
    return True if is_known else None


def _any(answers: Iterable[bool | None]) -> bool | None:
    is_known = True
    for answer in answers:
        if answer:
            return True
        is_known &= answer is not None
    return False if is_known else None


def _exists(rules: Sequence[Rule], found: Sequence[Item]) -> bool | None:
    if any(one.is_elsewhere for one in found):
        return None
    if any(one.max == 0 for one in rules):
        return not found
    return bool(found) if any(one.min for one in rules) else True


def _is_of(item: Item, type_name: str) -> bool | None:
    return None if item.is_elsewhere and item.kind == ANY else is_a(item.kind, type_name)


def _has(check: "Check", rule: Rule, item: Item) -> bool | None:
    """By the value a slice fixes; where it fixes none, by all that it says there."""
    if item.is_elsewhere:
        return None
    if rule.fixed is not None:
        return is_fixed(rule.fixed, item.value)
    if rule.pattern is not None:
        return has_pattern(rule.pattern, item.value)
    if rule.binding is not None and rule.binding.strength == "required":
        found = members(check.library, rule.binding.value_set, item)
        if found is None:
            text = f"not checked: the value set {rule.binding.value_set}, which tells the slice, is not known here"
            check.say("not-found", text, item.path, "warning")
        return found
    return check.holds(rule, item)


def _conforms(check: "Check", rule: Rule, item: Item) -> bool | None:
    """To a profile of one of the types, or to a type that has none."""
    return _any(_is_one(check, one, item) for one in rule.types)


def _is_one(check: "Check", rule: TypeRule, item: Item) -> bool | None:
    named = [name for name in rule.profiles if core_type(name) is None]
    of_type = _is_of(item, rule.code)
    if not named or not of_type:
        return of_type
    answer = None if item.is_elsewhere else _any(check.conforms(name, item) for name in named)
    if answer is None and not item.is_elsewhere:
        for name in named:
            check.usable(name, item.path)
    return answer
