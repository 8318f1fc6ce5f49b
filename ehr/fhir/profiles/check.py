"""One resource, one or more profiles → every problem of it, each with its FHIRPath.

In:      tree of a resource the gate finds valid R4; canonical URLs; a Library
Out:     issues; what the library lacked stays in it as wanted, and then the issues are not the answer yet
Keeps:   goes on after a problem; mustSupport asks nothing of a resource; a problem is said once, however many rules
         ask the same; texts hold no values, which may name a patient
Cost:    only elements that a profile says something of are looked at
Source:  FHIR R4 profiling.html, elementdefinition.html
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ehr.errors import Issue, Severity
from ehr.fhir import references
from ehr.fhir.profiles.coded import check_binding
from ehr.fhir.profiles.constraints import check_constraint
from ehr.fhir.profiles.core import core_type, is_a
from ehr.fhir.profiles.discriminator import Steps, rules_at
from ehr.fhir.profiles.extensions import check_extensions
from ehr.fhir.profiles.item import Item, items_of, resources_in, root_item
from ehr.fhir.profiles.library import Library
from ehr.fhir.profiles.resolve import Resolver, told_type
from ehr.fhir.profiles.rule import Profile, Rule, TypeRule
from ehr.fhir.profiles.slicing import Slice, sliced
from ehr.fhir.profiles.values import has_pattern, is_at_least, is_at_most, is_fixed

_SHOWN_MAX: Final = 8
_MANNERS: Final = ("contained", "bundled", "referenced")


def check(tree: Mapping[str, Any], canonicals: Iterable[str], library: Library) -> list[Issue]:
    """These profiles, those it and the resources in it claim, and the definitions of their extensions."""
    run = _claims(tree, canonicals, library)
    check_extensions(run, root_item(tree))
    return list(run.issues)


def check_claims(tree: Mapping[str, Any], library: Library) -> list[Issue]:
    """What a resource and those in it claim, and no more."""
    return list(_claims(tree, (), library).issues)


def _claims(tree: Mapping[str, Any], canonicals: Iterable[str], library: Library) -> "Check":
    run = Check(library)
    item = root_item(tree)
    for canonical in dict.fromkeys((*canonicals, *claimed(tree))):
        run.profile(canonical, item)
    for below in resources_in(item):
        for canonical in claimed(below.value):
            run.profile(canonical, below)
    return run


def claimed(tree: Mapping[str, Any]) -> Sequence[str]:
    """The profiles a resource says it conforms to."""
    meta = tree.get("meta")
    return [name for name in meta.get("profile", ()) if isinstance(name, str)] if meta else ()


def claims(tree: Mapping[str, Any]) -> bool:
    """Whether a resource, or one that lies in it, says that it conforms to a profile."""
    if claimed(tree):
        return True
    if "contained" not in tree and "entry" not in tree:  # of nearly every line of an import
        return False
    entries = tree.get("entry", ()) if tree.get("resourceType") == "Bundle" else ()
    inside = (*tree.get("contained", ()), *(entry.get("resource", {}) for entry in entries))
    return any(claims(one) for one in inside)


class _Broken(Exception):
    """An error, where whether there is any is all that is asked."""


class Check:
    """One run over one resource."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.resolver = Resolver()
        self.issues: dict[Issue, None] = {}
        self._source = ""
        self._errors = 0
        self._is_probing = False
        self._tried: dict[tuple[int | str, str], bool] = {}
        self._rules: dict[tuple[int, Steps], list[Rule]] = {}

    def say(self, code: str, text: str, at: str, severity: Severity = "error") -> None:
        if severity == "error":
            if self._is_probing:
                raise _Broken
            self._errors += 1
        self.issues[Issue(code, f"{text} ({self._source})" if self._source else text, at, severity)] = None

    # ---- profiles

    def profile(self, canonical: str, item: Item) -> None:
        """Everything a profile says of an item; a type of R4 is a profile too."""
        own = core_type(canonical)
        if own is not None:
            if not is_a(item.kind, own):
                self.say("structure", f"must be a {own}", item.path)
            return
        found = self.usable(canonical, item.path)
        if found is None:
            return
        key, errors = _key(item, canonical), self._errors
        self._tried.setdefault(key, True)
        before, self._source = self._source, found.canonical
        if is_a(item.kind, found.type):
            self.one(found.root, item)
        else:
            self.say("structure", f"must be a {found.type}", item.path)
        self._source = before
        self._tried[key] = self._errors == errors

    def usable(self, canonical: str, at: str) -> Profile | None:
        """None is said: what a profile that is not known or cannot be used asks is not checked."""
        found = self.library.profile(canonical)
        if isinstance(found, Profile):
            return found
        if found is None:
            self.say("not-found", f"not checked: the profile {canonical} is not known here", at, "information")
        else:
            self.say(
                "not-supported", f"not checked: the profile {canonical} cannot be used: {found.text}", at, "warning"
            )
        return None

    def conforms(self, canonical: str, item: Item) -> bool | None:
        """Without errors; None where the profile is not known. Asked of itself on the way, an item conforms."""
        own = core_type(canonical)
        if own is not None:
            return is_a(item.kind, own)
        found = self.library.profile(canonical)
        if not isinstance(found, Profile):
            return None
        key = _key(item, canonical)
        if key not in self._tried:
            self._tried[key] = True
            self._tried[key] = is_a(item.kind, found.type) and self.holds(found.root, item)
        return self._tried[key]

    def holds(self, rule: Rule, item: Item) -> bool:
        """Whether a rule finds no error: the first one ends it, and nothing is said."""
        before = self.issues, self._source, self._is_probing
        self.issues, self._is_probing = {}, True
        try:
            self.one(rule, item)
        except _Broken:
            return False
        finally:
            self.issues, self._source, self._is_probing = before
        return True

    def rules_at(self, rule: Rule, steps: Steps) -> list[Rule]:
        """What a slice says at the path of a discriminator: looked for once, and asked for every value."""
        key = (id(rule), steps)
        if key not in self._rules:
            self._rules[key] = rules_at(self, rule, steps)
        return self._rules[key]

    # ---- elements

    def element(self, rule: Rule, items: Sequence[Item], at: str, part: Slice | None = None) -> None:
        """How many there are, and each of them."""
        of = f" of the slice {part.name}" if part else ""
        if len(items) < rule.min:
            if part and len(items) + part.perhaps >= rule.min:
                text = f"not checked: whether {rule.min}{of} are there cannot be told with what is known here"
                self.say("not-found", text, at, "information")
            else:
                self.say("required", f"at least {rule.min}{of} must be there", at)
        if rule.max == 0 and items:
            self.say("structure", f"must not be there{of and ':' + of}", items[0].path)
        elif rule.max is not None and len(items) > rule.max:
            self.say("structure", f"at most {rule.max}{of} may be there", at)
        for item in items:
            self.one(rule, item)
        if rule.slicing is not None or rule.slices:
            for one in sliced(self, rule, items):
                self.element(rule.slices[one.name], one.items, at, one)

    def one(self, rule: Rule, item: Item) -> None:
        """One value against one rule."""
        if rule.types:
            self._types(rule.types, item)
        if rule.fixed is not None and not is_fixed(rule.fixed, item.value):
            self.say("value", f"must be exactly {_shown(rule.fixed)}", item.path)
        if rule.pattern is not None and not has_pattern(rule.pattern, item.value):
            self.say("value", f"must hold {_shown(rule.pattern)}", item.path)
        if item.value is not None:
            self._bounds(rule, item)
        if rule.binding is not None:
            check_binding(self, rule.binding, item)
        for constraint in rule.constraints:
            check_constraint(self, constraint, item)
        self.inside(rule, item)

    def inside(self, rule: Rule, item: Item) -> None:
        """The elements of an item."""
        for name, child in rule.children.items():
            self.element(child, items_of(item, name), f"{item.path}.{name.removesuffix('[x]')}")
        if rule.content is not None:
            self.inside(rule.content, item)

    def _bounds(self, rule: Rule, item: Item) -> None:
        if rule.max_length is not None and isinstance(item.value, str) and len(item.value) > rule.max_length:
            self.say("value", f"must have at most {rule.max_length} characters", item.path)
        if rule.min_value is not None and not is_at_least(rule.min_value, item.value):
            self.say("value", f"must be at least {_shown(rule.min_value)}", item.path)
        if rule.max_value is not None and not is_at_most(rule.max_value, item.value):
            self.say("value", f"must be at most {_shown(rule.max_value)}", item.path)

    # ---- types

    def _types(self, types: Sequence[TypeRule], item: Item) -> None:
        fitting = [one for one in types if is_a(item.kind, one.code)]
        if not fitting:
            self.say("structure", f"must be of type {_one_of([one.code for one in types])}", item.path)
            return
        profiles = [name for one in fitting for name in one.profiles]
        if profiles and all(one.profiles for one in fitting):
            self._one_profile(profiles, item)
        targets = [target for one in fitting for target in one.targets]
        if targets and item.kind == "Reference":
            self._target(targets, item)
        if item.kind == "Reference" and isinstance(item.value.get("reference"), str):
            self._manner(fitting, item)

    def _one_profile(self, names: Sequence[str], item: Item) -> None:
        """One of the profiles must hold; where only one could, its problems are told."""
        if len(names) == 1:
            self.profile(names[0], item)
        elif not any(self.conforms(name, item) for name in names):
            unknown = [name for name in names if self.usable(name, item.path) is None]
            if not unknown:
                self.say("structure", f"must conform to {_one_of(names)}, and does to none", item.path)

    def _target(self, targets: Sequence[str], item: Item) -> None:
        """What a reference means must be of a named type, and where it is at hand, of a named profile."""
        found = self._resolved(item)
        kind = found.kind if found else told_type(item.value)
        if kind is None:
            return
        known = {target: self._type_of(target, item.path) for target in targets}
        fitting = [target for target, type_name in known.items() if type_name is None or is_a(kind, type_name)]
        if not fitting:
            self.say("value", f"must refer to {_one_of(sorted(str(one) for one in known.values()))}", item.path)
        elif found and None not in known.values() and not any(self.conforms(target, found) for target in fitting):
            self.say("value", f"must refer to a resource that conforms to {_one_of(fitting)}", item.path)

    def _manner(self, types: Sequence[TypeRule], item: Item) -> None:
        """How a reference lies to what it names, and whether it names a version."""
        text = item.value["reference"]
        manner = "contained" if text.startswith("#") else "bundled" if self._resolved(item) else "referenced"
        allowed = [name for one in types for name in one.aggregation or _MANNERS]
        if manner not in allowed:
            self.say("value", f"must be {_one_of(allowed)}, and is {manner}", f"{item.path}.reference")
        versioning = "specific" if references.parse(text).version else "independent"
        if not any(one.versioning in ("either", versioning) for one in types):
            names = "a version" if versioning == "independent" else "no version"
            self.say("value", f"must name {names}", f"{item.path}.reference")

    def _resolved(self, item: Item) -> Item | None:
        return self.resolver.resolve(item.value.get("reference"), item.scope)

    def _type_of(self, target: str, at: str) -> str | None:
        own = core_type(target)
        if own is not None:
            return own
        found = self.usable(target, at)
        return found.type if found else None


def _key(item: Item, canonical: str) -> tuple[int | str, str]:
    return id(item.value) if item.is_object else item.path, canonical


def _one_of(names: Sequence[str]) -> str:
    listed = list(dict.fromkeys(names))
    more = f" or {len(listed) - _SHOWN_MAX} more" if len(listed) > _SHOWN_MAX else ""
    return ", ".join(listed[:_SHOWN_MAX]) + more


def _shown(value: Any) -> str:
    """A profile's own value, in short."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{name}: {_shown(one)}" for name, one in value.items()) + "}"
        case list():
            return ", ".join(_shown(one) for one in value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)
