"""One ElementDefinition → where it stands in the tree of rules, and what it lays there.

In:      the elements of a snapshot or differential, in order
Out:     Place: the way to it from the root, a step an element or slice; lay writes it over what is there
Keeps:   a choice named by its type (valueQuantity) is the slice of that name of value[x], as R4 allows to write it
Source:  FHIR R4 elementdefinition.html#id, #path, profiling.html#slicing, #reslicing
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ehr.fhir.profiles.core import core_type
from ehr.fhir.profiles.rule import Binding, Constraint, Discriminator, Rule, Slicing, TypeRule, Unusable
from ehr.fhir.structure import shape

Tree = Mapping[str, Any]
Step = tuple[str, str | None]
"""Name of an element, and of its slice or None; a reslice is "a/b"."""

TYPE_SLICING: Final = Slicing((Discriminator("type", "$this"),))
EXTENSION_SLICING: Final = Slicing((Discriminator("value", "url"),))

_SYSTEM: Final = "http://hl7.org/fhirpath/"
_EVERYWHERE: Final = frozenset({"ele-1", "ext-1"})
"""Keys that a snapshot repeats on every element, not always with their source; the gate checks them."""

_ASKED: Final = frozenset({"required", "extensible"})
_MAX_VALUE_SET: Final = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"


@dataclass(frozen=True, slots=True)
class Place:
    steps: tuple[Step, ...]
    element: Tree


def places(elements: Sequence[Tree], type_name: str) -> Iterator[Place]:
    """Each element with its way; ids tell slices apart, and where there are none the order does."""
    above: list[tuple[str, tuple[Step, ...]]] = []
    for element in elements:
        path = element["path"]
        if path.partition(".")[0] != type_name:
            raise Unusable(f"its element {path} is not of {type_name}")
        while above and not path.startswith(above[-1][0] + "."):
            above.pop()
        steps = _steps_by_id(element)
        if steps is None:
            before, known = above[-1] if above else (type_name, ())
            names = path[len(before) + 1 :].split(".") if path != before else []
            steps = known + tuple((name, None) for name in names)
            if "sliceName" in element and steps:
                steps = (*steps[:-1], (steps[-1][0], element["sliceName"]))
        above.append((path, steps))
        yield Place(steps, element)


def _steps_by_id(element: Tree) -> tuple[Step, ...] | None:
    """The steps an id tells, where it is of the form that R4 gives it and fits the path."""
    parts = str(element.get("id", "")).split(".")
    names = element["path"].split(".")
    if len(parts) != len(names):
        return None
    steps: list[Step] = []
    for part, name in zip(parts[1:], names[1:], strict=True):
        own, _, named = part.partition(":")
        if own != name and not (own.endswith("[x]") and name.startswith(own[:-3])):
            return None
        steps.append((own, named or None))
    if "sliceName" in element and steps and steps[-1][1] is None:
        return None
    return tuple(steps)


def lay(root: Rule, place: Place) -> None:
    """Write one element over the tree."""
    rule = root
    kind: str | None = root.name
    for step in place.steps:
        rule, kind = _descend(rule, kind, step)
    _write(rule, place.element)


def _descend(rule: Rule, kind: str | None, step: Step) -> tuple[Rule, str | None]:
    name, slice_name = step
    kinds: tuple[str, ...] = ()
    if kind is not None:
        form = shape(kind)
        if name in form.members and form.members[name].element.is_choice:
            element = form.members[name].element
            name, slice_name = element.path_name, slice_name or name
        found = [member for member in form.members.values() if member.element.path_name == name]
        if not found:
            raise Unusable(f"R4 has no element {name} in {kind}")
        kinds = tuple(member.type for member in found)
    child = rule.children.setdefault(name, Rule(name))
    kinds = _narrowed(kinds, child)
    for part in _slice_parts(slice_name):
        if child.slicing is None:
            child.slicing = _usual_slicing(name)
        child = child.slices.setdefault(part, Rule(part, types=_types_of_slice(kinds, name, part)))
        kinds = _narrowed(kinds, child)
    return child, kinds[0] if len(kinds) == 1 else None


def _slice_parts(slice_name: str | None) -> list[str]:
    return slice_name.split("/") if slice_name else []


def _usual_slicing(name: str) -> Slicing | None:
    """What slices of a choice or of extensions are told apart by when nothing is said."""
    if name.endswith("[x]"):
        return TYPE_SLICING
    return EXTENSION_SLICING if name in ("extension", "modifierExtension") else None


def _types_of_slice(kinds: tuple[str, ...], name: str, slice_name: str) -> tuple[TypeRule, ...]:
    """The type a slice of a choice is named after: value[x]:valueQuantity is of Quantity."""
    stem = name.removesuffix("[x]")
    named = [kind for kind in kinds if stem != name and slice_name == stem + kind[0].upper() + kind[1:]]
    return tuple(TypeRule(kind) for kind in named)


def _narrowed(kinds: tuple[str, ...], rule: Rule) -> tuple[str, ...]:
    codes = tuple(one.code for one in rule.types)
    if codes and kinds == ("Resource",):
        return codes
    return tuple(kind for kind in kinds if kind in codes) or kinds if codes else kinds


def _write(rule: Rule, element: Tree) -> None:
    if "min" in element:
        rule.min = int(element["min"])
    if "max" in element:
        rule.max = None if element["max"] == "*" else int(element["max"])
    if types := _types(element):
        rule.types = types
    for name, value in element.items():
        if name.startswith("fixed"):
            rule.fixed = value
        elif name.startswith("pattern"):
            rule.pattern = value
        elif name.startswith("minValue"):
            rule.min_value = value
        elif name.startswith("maxValue"):
            rule.max_value = value
    rule.max_length = element.get("maxLength", rule.max_length)
    rule.binding = _binding(element.get("binding", {})) or rule.binding
    keys = {one.key for one in rule.constraints}
    rule.constraints += tuple(one for one in _constraints(element) if one.key not in keys)
    if "slicing" in element:
        rule.slicing = _slicing(element["slicing"], rule.slicing)


def _types(element: Tree) -> tuple[TypeRule, ...]:
    return tuple(
        TypeRule(
            one["code"],
            tuple(one.get("profile", ())),
            tuple(one.get("targetProfile", ())),
            tuple(one.get("aggregation", ())),
            one.get("versioning", "either"),
        )
        for one in element.get("type", ())
        if not one["code"].startswith(_SYSTEM)
    )


def _binding(binding: Tree) -> Binding | None:
    """One that can be broken: preferred and example bind nobody."""
    if "valueSet" not in binding or "strength" not in binding:
        return None
    widest = [one.get("valueCanonical") for one in binding.get("extension", ()) if one["url"] == _MAX_VALUE_SET]
    if binding["strength"] not in _ASKED and not widest:
        return None
    return Binding(binding["valueSet"], binding["strength"], widest[0] if widest else None)


def _constraints(element: Tree) -> Iterator[Constraint]:
    """Those of the profile itself; what R4's own types ask for is checked by the gate."""
    for one in element.get("constraint", ()):
        if one["key"] in _EVERYWHERE or "expression" not in one or core_type(one.get("source", "")):
            continue
        yield Constraint(one["key"], one["severity"], one["human"], one["expression"])


def _slicing(slicing: Tree, before: Slicing | None) -> Slicing:
    told = tuple(Discriminator(one["type"], one["path"]) for one in slicing.get("discriminator", ()))
    return Slicing(
        told or (before.discriminators if before else ()),
        slicing.get("rules", "open"),
        slicing.get("ordered", False),
    )
