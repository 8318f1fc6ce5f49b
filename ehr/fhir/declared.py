"""A SearchParameter resource → the parameters it declares, one for each base type. Pure.

In:      tree of a SearchParameter that the validator has passed
Out:     Declared, as entries of the table (ehr.fhir.parameters.parameter_of); none where the resource declares nothing:
         it is not active, it is one of HL7's own, or it says what R4's own parameter of that code says already
Errors:  Invalid, an issue for each part that cannot be served, at that part: a write of it is refused (ehr.store.gate)
Refused: special, phonetic and distance parameters; an expression outside ehr.fhir.expressions; a code that R4 uses for
         something else; composites of other than R4's own parameters, or that cannot be kept as pairs
Source:  FHIR R4 searchparameter.html, 3.1.1.4.1
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ehr.errors import Invalid, Issue
from ehr.fhir import parameters, structure
from ehr.fhir.expressions import Resolved, Resolver, Unreadable, alternatives, of_structure
from ehr.fhir.parameters import COMMON, Parameter, parameter_of
from ehr.fhir.r4 import TYPE_IDS

TYPE: Final = "SearchParameter"
HL7: Final = "http://hl7.org/fhir/SearchParameter/"

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}", re.ASCII)
_KINDS: Final = frozenset({"number", "date", "string", "token", "reference", "composite", "quantity", "uri"})
_UNSERVED_USAGES: Final = frozenset({"phonetic", "nearby", "distance"})
_COMMON_BASES: Final = frozenset({"Resource", "DomainResource"})
_RESOLVER: Final = Resolver(of_structure)


@dataclass(frozen=True, slots=True)
class Declared:
    """definition: kind, url, and what of paths, targets, systems, bases and components the kind has."""

    type_name: str
    code: str
    definition: Mapping[str, Any]


def declared(tree: Mapping[str, Any]) -> tuple[Declared, ...]:
    """What an installation has to serve because of this resource."""
    if tree.get("status") != "active" or str(tree.get("url", "")).startswith(HL7):
        return ()
    found = list(issues(tree))
    if found:
        raise Invalid("the search parameter cannot be served", issues=found)
    made = []
    for base in dict.fromkeys(COMMON if base in _COMMON_BASES else base for base in tree["base"]):
        definition = _definition(tree, base)
        if not _is_own(definition, base, tree["code"]):
            made.append(Declared(base, tree["code"], definition))
    return tuple(made)


def issues(tree: Mapping[str, Any]) -> Iterator[Issue]:
    """Every reason why an active SearchParameter of one's own cannot be served."""
    if tree.get("status") != "active" or str(tree.get("url", "")).startswith(HL7):
        return
    yield from _head_issues(tree)
    if tree["type"] not in _KINDS:
        return
    for base in tree["base"]:
        if base not in TYPE_IDS and base not in _COMMON_BASES:
            yield _issue(f"{base} is no resource type that is stored here", "base")
            continue
        name = COMMON if base in _COMMON_BASES else base
        try:
            definition = _definition(tree, name)
        except Unreadable as error:
            yield _issue(f"for {base}: {error}", "expression")
            continue
        except Invalid as error:
            yield from error.issues
            continue
        if tree["code"] in parameters.of(name) and not _is_own(definition, name, tree["code"]):
            yield _issue(f"{base} has a parameter {tree['code']} of R4's own, which reads something else", "code")


def _head_issues(tree: Mapping[str, Any]) -> Iterator[Issue]:
    if not _CODE.fullmatch(tree["code"]):
        yield _issue("a code that is asked for in a query has letters, digits, - and _, a letter first", "code")
    if tree["type"] not in _KINDS:
        yield _issue(f"a {tree['type']} parameter means something of its own, which this server does not know", "type")
    if tree.get("xpathUsage") in _UNSERVED_USAGES:
        yield _issue(f"there is no index for {tree['xpathUsage']}", "xpathUsage")


def _issue(text: str, member: str) -> Issue:
    return Issue("not-supported", text, f"{TYPE}.{member}")


def _definition(tree: Mapping[str, Any], base: str) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": tree["type"], "url": tree.get("url", "")}
    expression = _of_base(tree.get("expression", ""), base)
    if not expression:
        raise Unreadable("there is no expression to index")
    if tree["type"] == "composite":
        return made | _composite(tree, base, expression)
    leaves = _RESOLVER.leaves(base, expression, tree["type"])
    if not leaves:
        raise Unreadable(f"{expression!r} reads nothing that is searched as a {tree['type']}")
    made["paths"] = [leaf.text() for leaf in leaves]
    if tree["type"] == "reference":
        only = {leaf.filter[4:-1] for leaf in leaves if leaf.filter}
        made["targets"] = sorted(only or set(tree.get("target", ())) & TYPE_IDS.keys()) or ["*"]
    systems = {
        system for leaf in leaves if leaf.type == "code" for system in structure.codes(leaf.value_set or "") or ()
    }
    if systems:
        made["systems"] = sorted(systems)
    return made


def _of_base(expression: str, base: str) -> str:
    """The alternatives that begin at one base type, or at none."""
    begun = rf"\(*{base}\b|\(*(?:Domain)?Resource\b|\(*[a-z]"
    return " | ".join(part for part in alternatives(expression) if re.match(begun, part))


def _composite(tree: Mapping[str, Any], base: str, expression: str) -> dict[str, Any]:
    """Base paths, and each component as the R4 parameter it names with its paths from the base."""
    bases = _RESOLVER.resolve(base, expression)
    components = [_component(part, n, base, bases) for n, part in enumerate(tree.get("component", ()))]
    made = {"bases": [".".join(path.steps) for path in bases], "components": components}
    if len(components) < 2 or not _kept(made, base):
        text = "a composite has two components of one element, a token or reference and a token or quantity"
        raise Invalid("not served", issues=[_issue(text, "component")])
    return made


def _component(part: Mapping[str, Any], number: int, base: str, bases: list[Resolved]) -> dict[str, Any]:
    code = str(part["definition"]).removeprefix(HL7).partition("-")[2]
    known = parameters.of(base).get(code)
    if not str(part["definition"]).startswith(HL7) or known is None or not known.paths:
        text = f"a component names a parameter of R4's own for {base}"
        raise Invalid("not served", issues=[_issue(text, f"component[{number}].definition")])
    at_root = part["expression"].startswith("%resource")
    inner = part["expression"].removeprefix("%resource.")
    starts = [Resolved((), base, base)] if at_root else [Resolved((), one.type, one.where) for one in bases[-1:]]
    paths = [path for start in starts for one in alternatives(inner) for path in _RESOLVER.walk(start, one)]
    texts = [("%" if at_root else "") + leaf.text() for leaf in _RESOLVER.served(paths, known.kind)]
    return {"code": code, "kind": known.kind, "paths": texts}


def _kept(made: Mapping[str, Any], base: str) -> bool:
    """Whether the index can keep it: over the resource itself an AND is exact, elsewhere it needs pairs."""
    candidate = parameter_of({"id": 0, "type": base, "code": "", "kind": "composite", **made})
    if candidate.bases == ((),):
        return all(part.paths for part in candidate.components)
    flat = all(len(path.steps) == 1 and not path.steps[0].many for part in candidate.components for path in part.paths)
    return candidate.is_paired and flat and all(part.paths for part in candidate.components)


def _is_own(definition: Mapping[str, Any], base: str, code: str) -> bool:
    """R4's own parameter of this code reads the same."""
    own: Parameter | None = parameters.of(base).get(code)
    if own is None or own.kind != definition["kind"]:
        return False
    said = parameter_of({"id": own.id, "type": own.type_name, "code": code, **definition})
    return (set(said.paths), said.bases, said.components) == (set(own.paths), own.bases, own.components)
