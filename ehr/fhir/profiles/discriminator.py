"""The path of a discriminator, over items and over rules.

Source:  FHIR R4 profiling.html#discriminator: element names, extension(url), resolve(), ofType(type), $this
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ehr.fhir.profiles.core import core_type, is_a
from ehr.fhir.profiles.item import ELSEWHERE, Item, items_of
from ehr.fhir.profiles.resolve import told_type
from ehr.fhir.profiles.rule import Profile, Rule, TypeRule

if TYPE_CHECKING:
    from ehr.fhir.profiles.check import Check

Steps = tuple[tuple[str, str], ...]
"""(what, argument): ("name", "code"), ("extension", url), ("resolve", ""), ("ofType", "Quantity")."""

ANY: Final = "Resource"
"""The kind of what is elsewhere, where the reference does not tell it."""

_STEP: Final = re.compile(
    r"""(?:(?P<call>extension|ofType|resolve)\(\s*['"]?(?P<of>[^'")]*)['"]?\s*\)|(?P<name>\$?\w+(?:\[x\])?))(?:\.|$)"""
)


@lru_cache(maxsize=1_024)
def steps_of(path: str) -> Steps | None:
    """None where the path holds something a discriminator may not."""
    steps: list[tuple[str, str]] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        at = found.end()
        if found["call"]:
            steps.append((found["call"], found["of"]))
        elif found["name"] != "$this":
            steps.append(("name", found["name"]))
    return tuple(steps)


def items_at(check: "Check", item: Item, steps: Steps) -> list[Item]:
    """What is there; a reference to what is not at hand ends elsewhere, and so does every step from there."""
    found = [item]
    for what, of in steps:
        found = [below for one in found for below in _items_below(check, one, what, of)]
    return found


def _items_below(check: "Check", item: Item, what: str, of: str) -> Sequence[Item]:
    match what:
        case "resolve":
            return [_resolved(check, item)]
        case "ofType":
            return [item] if is_a(item.kind, of) or (item.is_elsewhere and item.kind == ANY) else []
        case _ if item.is_elsewhere:
            return [replace(item, kind=ANY)]
        case "extension":
            return [one for one in items_of(item, "extension") if one.value.get("url") == of]
        case _:
            return items_of(item, of) or items_of(item, f"{of}[x]")


def _resolved(check: "Check", item: Item) -> Item:
    reference = item.value.get("reference") if item.is_object else item.value
    found = check.resolver.resolve(reference, item.scope)
    told = told_type(item.value) if item.is_object else None
    return found or Item(told or ANY, ELSEWHERE, item.path, item.scope)


def rules_at(check: "Check", rule: Rule, steps: Steps) -> list[Rule]:
    """What a slice says at the path, in itself and in the profiles of its types."""
    found = [rule]
    for what, of in steps:
        found = [below for one in found for below in _below(check, one, what, of)]
    return found


def _below(check: "Check", rule: Rule, what: str, of: str) -> Sequence[Rule]:
    match what:
        case "resolve":
            types = tuple(_meant(check, target) for one in rule.types for target in one.targets)
            return [Rule("resolve()", types=types)] if types else []
        case "ofType":
            named = [one for one in rule.slices.values() if of in [each.code for each in one.types]]
            return [rule, *named]
        case "extension":
            extensions = rule.children.get("extension")
            return [one for one in extensions.slices.values() if of in urls_of(check, one)] if extensions else []
        case _:
            parts = [rule, *_profile_roots(check, rule), *([rule.content] if rule.content else [])]
            return [part.children[name] for part in parts for name in (of, f"{of}[x]") if name in part.children]


def _meant(check: "Check", target: str) -> TypeRule:
    """A target of a Reference as the type of what it refers to."""
    own = core_type(target)
    if own is not None:
        return TypeRule(own)
    profile = check.library.profile(target)
    return TypeRule(profile.type if isinstance(profile, Profile) else "Resource", (target,))


def _profile_roots(check: "Check", rule: Rule) -> list[Rule]:
    names = [name for one in rule.types for name in one.profiles if core_type(name) is None]
    found = [check.library.profile(name) for name in names]
    return [one.root for one in found if isinstance(one, Profile)]


def urls_of(check: "Check", rule: Rule) -> set[str]:
    """The url a slice of extensions is for: fixed in it, or the name of its profile."""
    fixed = {str(one.fixed) for one in rules_at(check, rule, (("name", "url"),)) if one.fixed is not None}
    return fixed or {name.partition("|")[0] for one in rule.types for name in one.profiles}
