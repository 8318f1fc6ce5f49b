"""The FHIRPath rules of a profile on one item.

Out:     issues; a rule whose answer lies outside the resource (a reference that leads out of it, a value set not known)
         is said not to be checked, and never taken for broken
Source:  FHIR R4 elementdefinition.html#constraint, fhirpath.html
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ehr.errors import TooMuch
from ehr.fhir import fhirpath
from ehr.fhir.fhirpath import Environment, ExpressionError
from ehr.fhir.profiles.coded import members
from ehr.fhir.profiles.item import Item, nested
from ehr.fhir.profiles.rule import Constraint

if TYPE_CHECKING:
    from ehr.fhir.profiles.check import Check


def check_constraint(check: "Check", constraint: Constraint, item: Item, **variables: Any) -> None:
    try:
        holds = Question(check, item, **variables).holds(constraint.expression)
    except (ExpressionError, TooMuch) as error:
        text = f"not checked: the constraint {constraint.key} cannot be evaluated: {error}"
        check.say("not-supported", text, item.path, "warning")
        return
    if holds is None:
        text = f"not checked: the constraint {constraint.key} asks for what is not here"
        check.say("not-found", text, item.path, "information")
    elif not holds:
        check.say("invariant", f"{constraint.key}: {constraint.text}", item.path, constraint.severity)


def started(item: Item) -> fhirpath.Item:
    """An item as FHIRPath begins at it."""
    return fhirpath.Item(item.value, item.kind, extra=item.note)


class Question:
    """Expressions about one item, and whether an answer was missing on the way."""

    def __init__(self, check: "Check", item: Item, **variables: Any) -> None:
        self._check = check
        self._item = item
        self._is_missing = False
        self._environment = Environment(variables, self._resolve, self._member_of, self._conforms_to)

    def holds(self, expression: str) -> bool | None:
        """None: it is not true, but would perhaps be if something were known."""
        item, self._is_missing = self._item, False
        true = fhirpath.compile(expression).holds(
            started(item), resource=item.scope.resource, root=item.scope.root, environment=self._environment
        )
        return None if not true and self._is_missing else true

    def selects(self, expression: str, wanted: Item) -> bool:
        """Whether an item is one of those the expression finds in the resource it lies in."""
        found = fhirpath.compile(expression).evaluate(self._item.scope.resource, environment=self._environment)
        return any(one.value is wanted.value if wanted.is_object else one.type == wanted.kind for one in found)

    def _resolve(self, reference: str) -> Mapping[str, Any] | None:
        found = self._check.resolver.resolve(reference, self._item.scope)
        self._is_missing |= found is None
        return None if found is None else found.value

    def _member_of(self, value: Any, kind: str, value_set: str) -> bool | None:
        asked = Item(kind, value, self._item.path, self._item.scope)
        found = members(self._check.library, value_set, asked)
        self._is_missing |= found is None
        return found

    def _conforms_to(self, tree: Mapping[str, Any], profile: str) -> bool:
        found = self._check.conforms(profile, nested(tree, self._item))
        self._is_missing |= found is None
        return bool(found)
