"""A ConceptMap as FHIR JSON has it → its groups and mappings.

Out:     an element without a target is a mapping that says there is none; one without a code says nothing
Errors:  Unreadable  no url, or no groups, or a part of another shape
Source:  FHIR R4 4.10 ConceptMap
"""

from collections.abc import Iterator

from terminology.errors import Unreadable
from terminology.resources import Attribute, ConceptMap, Group, Mapped, Unmapped
from terminology.tree import Tree, each, text, title


def concept_map(tree: Tree) -> ConceptMap:
    groups: list[Group] = []
    entries: list[Mapped] = []
    for at, one in each(tree, "group", "ConceptMap"):
        entries += _entries(one, len(groups), at)
        groups.append(_group(one, at))
    url = text(tree, "url", "ConceptMap")
    if not groups:
        raise Unreadable("holds no mappings", at="ConceptMap.group")
    return ConceptMap(
        url=url,
        version=str(tree.get("version", "")),
        title=title(tree),
        source=_scope(tree, "source"),
        target=_scope(tree, "target"),
        groups=tuple(groups),
        entries=tuple(entries),
    )


def _scope(tree: Tree, name: str) -> str:
    return str(tree.get(f"{name}Canonical") or tree.get(f"{name}Uri") or "")


def _group(tree: Tree, at: str) -> Group:
    return Group(
        source=str(tree.get("source", "")),
        target=str(tree.get("target", "")),
        source_version=str(tree.get("sourceVersion", "")),
        target_version=str(tree.get("targetVersion", "")),
        unmapped=_unmapped(tree["unmapped"], f"{at}.unmapped") if "unmapped" in tree else None,
    )


def _unmapped(tree: object, at: str) -> Unmapped:
    if not isinstance(tree, dict):
        raise Unreadable("must be an object", at=at)
    return Unmapped(
        mode=text(tree, "mode", at),
        code=str(tree.get("code", "")),
        display=str(tree.get("display", "")),
        url=str(tree.get("url", "")),
    )


def _entries(group: Tree, place: int, at: str) -> Iterator[Mapped]:
    for here, element in each(group, "element", at):
        if "code" not in element:
            continue
        code, display = text(element, "code", here), str(element.get("display", ""))
        targets = list(each(element, "target", here)) or [(here, {"equivalence": "unmatched"})]
        for there, target in targets:
            yield Mapped(
                group=place,
                source_code=code,
                target_code=str(target.get("code", "")),
                equivalence=str(target.get("equivalence", "relatedto")),
                source_display=display,
                target_display=str(target.get("display", "")),
                depends_on=_attributes(target, "dependsOn", there),
                product=_attributes(target, "product", there),
            )


def _attributes(target: Tree, name: str, at: str) -> tuple[Attribute, ...]:
    return tuple(
        Attribute(
            property=text(one, "property", here),
            system=str(one["system"]) if "system" in one else None,
            value=text(one, "value", here),
            display=str(one.get("display", "")),
        )
        for here, one in each(target, name, at)
    )
