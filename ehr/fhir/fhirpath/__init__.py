"""FHIRPath: expressions over resources, compiled once and evaluated often.

In:      compile(text)                     an expression; the same text is compiled once
         expression.evaluate(tree, …)      a resource, or any element with its type
Out:     list of Items: plain value, type, and place: `path` in FHIRPath, `parent`, `name` and `index` in the JSON, so
         that a caller may change the tree there
Errors:  ExpressionError  422  it cannot be read, or does not fit what it is evaluated on
         TooMuch          413  it needs more than ehr.limits.fhirpath_… gives one expression
Keeps:   pure: what is outside the resource is asked of the Environment the caller gives
Source:  FHIRPath 2.0.0 (normative), FHIR R4 2.9.1; docs/conformance.md says which official cases pass

    fhirpath.compile("name.where(use = 'official').given.first()").evaluate(patient)[0].value
    fhirpath.compile("name.exists() or telecom.exists()").holds(contact, type_name="Patient.contact", resource=patient)
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ehr.fhir.fhirpath import (  # noqa: F401
    functions_collections,
    functions_conversion,
    functions_fhir,
    functions_numbers,
    functions_texts,
)
from ehr.fhir.fhirpath.compiler import compiled
from ehr.fhir.fhirpath.context import NOTHING, Context, Environment, Function
from ehr.fhir.fhirpath.errors import ExpressionError
from ehr.fhir.fhirpath.items import Item, root_item
from ehr.fhir.fhirpath.operators import truth
from ehr.fhir.fhirpath.parser import parse

__all__ = ["Environment", "Expression", "ExpressionError", "Function", "Item", "compile"]

_COMPILED_MAX = 4096


class Expression:
    """A compiled expression. It holds nothing of an evaluation and may be used by many at once."""

    __slots__ = ("_code", "text")

    def __init__(self, text: str, own: frozenset[str]) -> None:
        self.text = text
        self._code = compiled(parse(text), own)

    def __repr__(self) -> str:
        return f"compile({self.text!r})"

    def evaluate(
        self,
        start: Item | Mapping[str, Any] | Any,
        *,
        type_name: str | None = None,
        resource: Mapping[str, Any] | None = None,
        root: Mapping[str, Any] | None = None,
        environment: Environment = NOTHING,
    ) -> list[Item]:
        """What the expression gives.

        start      where it begins (%context): an Item, or JSON with its type; a resource needs none
        resource   the resource start is in (%resource), where start is not the whole of it
        root       the resource that contains that one (%rootResource), where it is contained
        """
        begun = start if isinstance(start, Item) else root_item(start, type_name)
        whole = _resource_of(begun) if resource is None else root_item(resource, None)
        outermost = _root_of(whole) if root is None else root_item(root, None)
        try:
            return self._code(Context(begun, whole, outermost, environment), [begun])
        except RecursionError as error:
            raise ExpressionError("FHIRPath: the expression is nested too deeply to be evaluated") from error

    def values(self, start: Any, **more: Any) -> list[Any]:
        """Plain values of what evaluate gives."""
        return [item.value for item in self.evaluate(start, **more)]

    def holds(self, start: Any, **more: Any) -> bool:
        """Whether it is true; where it gives nothing, it is not."""
        return truth(self.evaluate(start, **more)) is True


@lru_cache(maxsize=_COMPILED_MAX)
def compile(text: str, functions: frozenset[str] = frozenset()) -> Expression:  # noqa: A001
    """functions: names of what the environment will bring besides the functions of FHIRPath."""
    return Expression(text, functions)


def _resource_of(item: Item) -> Item:
    """The resource an item lies in: the nearest above it that is one."""
    at = item
    while at.parent is not None and not (isinstance(at.value, Mapping) and "resourceType" in at.value):
        at = at.parent
    return at


def _root_of(item: Item) -> Item:
    """The resource that contains it, where it is contained; an entry of a Bundle is its own root."""
    return item.parent if item.parent is not None and item.element == "contained" else item
