"""A tree of rules → the same without what R4 says already, and with contentReferences followed.

Why:     a snapshot repeats all of its base: of the 1,040 elements of the IPS Bundle about 100 add something
Source:  FHIR R4 elementdefinition.html#contentReference
"""

from ehr.fhir.profiles.core import core_type, is_primitive
from ehr.fhir.profiles.rule import Rule, TypeRule
from ehr.fhir.structure import Element, shape


def trimmed(root: Rule, type_name: str) -> Rule:
    _trim_children(root, type_name, in_slice=False)
    _follow(root, root, type_name)
    return root


def _trim_children(rule: Rule, kind: str | None, *, in_slice: bool) -> None:
    members = {} if kind is None else {one.element.path_name: one.element for one in shape(kind).members.values()}
    for name, child in list(rule.children.items()):
        _trim(child, members.get(name), in_slice=in_slice)
        if child.is_empty:
            del rule.children[name]


def _trim(rule: Rule, element: Element | None, *, in_slice: bool) -> None:
    """in_slice: how many there are may tell slices apart, and stays."""
    if element is not None:
        if not in_slice:
            rule.min = 0 if rule.min <= element.min else rule.min
            rule.max = None if rule.max == element.max else rule.max
        rule.types = () if _same_types(rule.types, element) else rule.types
        if rule.binding and rule.binding.value_set.partition("|")[0] == element.value_set:
            rule.binding = None
    kind = kind_of(rule, element)
    _trim_children(rule, kind, in_slice=in_slice)
    for one in rule.slices.values():
        slice_kind = kind_of(one, element) if one.types else kind
        _trim_children(one, slice_kind, in_slice=True)
        for reslice in one.slices.values():
            _trim_children(reslice, slice_kind, in_slice=True)
    if rule.slicing and not rule.slices and rule.slicing.rules == "open":
        rule.slicing = None


def kind_of(rule: Rule, element: Element | None) -> str | None:
    """The one type an element has, where it has one."""
    codes = [one.code for one in rule.types] or list(element.types if element else ())
    if len(set(codes)) != 1:
        return None
    if codes[0] in ("BackboneElement", "Element") and element is not None:
        return element.types[0]
    return codes[0]


def _same_types(types: tuple[TypeRule, ...], element: Element) -> bool:
    """Whether a profile names R4's own types and targets only."""
    own = set(element.types)
    if any("." in kind for kind in own):
        return all(not one.profiles for one in types)
    if {one.code for one in types} != own:
        return False
    targets = {core_type(target) for one in types if one.code == "Reference" for target in one.targets}
    if any(one.profiles or one.aggregation or one.versioning != "either" for one in types):
        return False
    return targets in (set(element.targets or ()), {"Resource"}, set())


def _follow(rule: Rule, root: Rule, kind: str | None) -> None:
    """Give each element that refers to the content of another the rules of that other."""
    if kind is None or is_primitive(kind):
        return
    for member in shape(kind).members.values():
        name, inner = member.element.name, member.type
        if "." in inner and inner != f"{kind}.{name}" and inner.partition(".")[0] == root.name:
            meant = _at(root, inner)
            child = rule.children.get(name)
            if meant is not None and (child is None or (child.max != 0 and not child.children)):
                child = rule.children.setdefault(name, Rule(name))
                child.content = meant
        elif name in rule.children and "." in inner:
            _follow(rule.children[name], root, inner)
            for one in rule.children[name].slices.values():
                _follow(one, root, inner)


def _at(root: Rule, path: str) -> Rule | None:
    rule: Rule | None = root
    for name in path.split(".")[1:]:
        rule = rule.children.get(name) if rule else None
    return rule if rule is not None and (rule.children or rule.constraints) else None
