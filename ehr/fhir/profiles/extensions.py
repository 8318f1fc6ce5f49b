"""Every extension of a resource against its definition, wherever in the resource it stands.

Out:     issues of each extension whose definition is known: what it holds, where it may stand, and whether it is a
         modifier; a modifier that is not known here is told, because who does not know it must not use the resource
Keeps:   an extension that is not known is no fault; those inside another are its definition's matter
Source:  FHIR R4 extensibility.html, defining-extensions.html#context
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ehr.errors import TooMuch
from ehr.fhir.fhirpath import ExpressionError
from ehr.fhir.profiles.constraints import Question, check_constraint, started
from ehr.fhir.profiles.core import is_a
from ehr.fhir.profiles.item import Item, items_of
from ehr.fhir.profiles.rule import Constraint, Context, Profile
from ehr.fhir.structure import shape

if TYPE_CHECKING:
    from ehr.fhir.profiles.check import Check

Path = tuple[str, ...]
"""What a place is called: ("Patient.name", "HumanName"), each a context that an extension may name."""


def check_extensions(check: "Check", root: Item) -> None:
    for owner, names in _owners(root, (root.kind,)):
        for name in ("extension", "modifierExtension"):
            for extension in items_of(owner, name):
                _check(check, extension, owner, names, is_modifier=name == "modifierExtension")


def _owners(item: Item, names: Path) -> Iterator[tuple[Item, Path]]:
    """Every element, and what it is called."""
    node = item.value if item.is_object else item.note
    if not node:
        return
    yield item, names
    for name, member in shape(item.kind if item.is_object else "Element").members.items():
        if name not in node and f"_{name}" not in node:
            continue
        element = member.element
        if element.name in ("extension", "modifierExtension") or (member.is_primitive and f"_{name}" not in node):
            continue
        for below in items_of(item, name if not element.is_choice else element.path_name):
            yield from _owners(below, _names(names, element.path_name, below))


def _names(above: Path, name: str, item: Item) -> Path:
    """Patient.name is HumanName too; Patient.name.given is HumanName.given."""
    if item.scope.resource is item.value:
        return (item.kind,)
    return (*(f"{one}.{name}" for one in above), item.kind)


def _check(check: "Check", item: Item, owner: Item, names: Path, *, is_modifier: bool) -> None:
    url = item.value.get("url") if isinstance(item.value, Mapping) else None
    if not isinstance(url, str) or ":" not in url:
        return
    definition = check.library.profile(url)
    if not isinstance(definition, Profile) or definition.type != "Extension":
        if is_modifier:
            text = "this modifier extension is not known here: who does not know it must not use the resource"
            check.say("extension", text, item.path, "warning")
        return
    check.profile(url, item)
    if definition.is_modifier != is_modifier:
        right = "modifierExtension" if definition.is_modifier else "extension"
        check.say("extension", f"its definition makes it a {right}", item.path)
    if definition.contexts and not any(_is_in(check, one, owner, names) for one in definition.contexts):
        allowed = ", ".join(one.expression for one in definition.contexts)
        check.say("extension", f"may stand in {allowed} only", item.path)
    for expression in definition.context_invariants:
        rule = Constraint("contextInvariant", "error", "it may not stand here", expression)
        check_constraint(check, rule, owner, extension=started(item))
    for nested in ("extension", "modifierExtension"):
        for below in items_of(item, nested):
            _check(check, below, item, ("Extension",), is_modifier=nested == "modifierExtension")


def _is_in(check: "Check", context: Context, owner: Item, names: Path) -> bool:
    match context.type:
        case "extension":
            return isinstance(owner.value, Mapping) and owner.value.get("url") == context.expression
        case "element":
            return context.expression in (*names, "Element") or is_a(owner.kind, context.expression)
        case _:
            return _selects(check, context.expression, owner)


def _selects(check: "Check", expression: str, owner: Item) -> bool:
    """A context that cannot be evaluated refuses nobody."""
    try:
        return Question(check, owner).selects(expression, owner)
    except (ExpressionError, TooMuch):
        return True
