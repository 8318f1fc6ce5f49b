"""The values of a sliced element → which of them belong to which slice.

Out:     slices with their items, and the rest; problems of order and of closed slicing are said to the check
Source:  FHIR R4 profiling.html#slicing
"""

from typing import TYPE_CHECKING, Final

from ehr.fhir.profiles.coded import members
from ehr.fhir.profiles.core import core_type, is_a
from ehr.fhir.profiles.discriminator import items_at, steps_of, urls_of
from ehr.fhir.profiles.item import Item
from ehr.fhir.profiles.rule import Discriminator, Rule, Slicing
from ehr.fhir.profiles.values import has_pattern, is_fixed

if TYPE_CHECKING:
    from ehr.fhir.profiles.check import Check

DEFAULT: Final = "@default"
"""The slice of all that fits no other."""


def sliced(check: "Check", rule: Rule, items: list[Item]) -> dict[str, list[Item]]:
    """Slice → its items; every slice is there."""
    slicing = rule.slicing or Slicing(())
    groups: dict[str, list[Item]] = {name: [] for name in rule.slices}
    order = list(rule.slices)
    rest: list[Item] = []
    last = 0
    for item in items:
        name = next((one for one in order if one != DEFAULT and _belongs(check, slicing, rule.slices[one], item)), None)
        if name is None:
            rest.append(item)
            continue
        groups[name].append(item)
        if slicing.ordered and order.index(name) < last:
            check.say("structure", f"{name} must come before {order[last]}", item.path)
        last = max(last, order.index(name))
        if rest and slicing.rules == "openAtEnd":
            check.say("structure", f"what is in no slice must come after {name}", rest[0].path)
    if DEFAULT in groups:
        groups[DEFAULT] = rest
    elif slicing.rules == "closed":
        for item in rest:
            check.say("structure", f"must be one of the slices {', '.join(order)}, and is none", item.path)
    return groups


def _belongs(check: "Check", slicing: Slicing, rule: Rule, item: Item) -> bool:
    if not slicing.discriminators:
        return not check.errors_of(rule, item)
    return all(_tells(check, one, rule, item) for one in slicing.discriminators)


def _tells(check: "Check", discriminator: Discriminator, rule: Rule, item: Item) -> bool:
    steps = steps_of(discriminator.path)
    if steps is None:
        check.say("not-supported", f"the discriminator {discriminator.path} is not understood", item.path)
        return False
    rules, found = check.rules_at(rule, steps), items_at(check, item, steps)
    match discriminator.type:
        case "exists":
            return _exists(rules, found)
        case "type":
            codes = [one.code for each in rules for one in each.types]
            return any(is_a(one.kind, code) for one in found for code in codes)
        case "profile":
            return any(_conforms(check, each, one) for one in found for each in rules)
        case _ if discriminator.path == "url" and item.kind == "Extension":
            url = item.value.get("url")
            return isinstance(url, str) and url in urls_of(check, rule)
        case _:
            return any(_fits(check, rules, one) for one in found)


def _exists(rules: list[Rule], found: list[Item]) -> bool:
    if any(one.max == 0 for one in rules):
        return not found
    return bool(found) if any(one.min for one in rules) else True


def _fits(check: "Check", rules: list[Rule], item: Item) -> bool:
    """By the value a slice fixes; where it fixes none, by all that it says there."""
    return bool(rules) and all(_has(check, one, item) for one in rules)


def _has(check: "Check", rule: Rule, item: Item) -> bool:
    if rule.fixed is not None:
        return is_fixed(rule.fixed, item.value)
    if rule.pattern is not None:
        return has_pattern(rule.pattern, item.value)
    if rule.binding is not None and rule.binding.strength == "required":
        found = members(check.library, rule.binding.value_set, item)
        if found is None:
            text = f"taken for none of the slice: the value set {rule.binding.value_set} is not known here"
            check.say("not-found", text, item.path, "warning")
        return found is True
    return not check.errors_of(rule, item)


def _conforms(check: "Check", rule: Rule, item: Item) -> bool:
    """To a profile of one of the types, or to a type that has none."""
    for one in rule.types:
        named = [name for name in one.profiles if core_type(name) is None]
        if is_a(item.kind, one.code) and (not named or any(check.conforms(name, item) for name in named)):
            return True
    return False
