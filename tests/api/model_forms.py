"""A request of the model in the forms it may have: an address, an entry of a Bundle, a patch, JSON or XML; and back.

Source:  FHIR R4 http.html#patch, json.html, xml.html; written without the server's own readers and writers
"""

import base64
import json
from typing import Any

import httpx
import orjson
from lxml import etree

from tests.api.model import Ask, Tree

MEDIA = {"json": "application/fhir+json", "xml": "application/fhir+xml"}
FHIR = "http://hl7.org/fhir"
Node = tuple[str, str | None, tuple[Any, ...]]


def address(ask: Ask) -> str:
    if ask.method == "POST":
        return f"/{ask.type}"
    if ask.id is None:
        return f"/{ask.type}?{ask.query}"
    return f"/{ask.type}/{ask.id}" + (f"/_history/{ask.vid}" if ask.vid is not None else "")


def entry(ask: Ask) -> dict[str, Any]:
    """The request as an entry of a Bundle."""
    request = {"method": ask.method, "url": address(ask)[1:]}
    named = {"ifMatch": ask.if_match, "ifNoneMatch": ask.if_none_match, "ifNoneExist": ask.if_none_exist}
    made: dict[str, Any] = {"request": request | {name: value for name, value in named.items() if value}}
    if ask.full_url and ask.method in ("POST", "PUT"):
        made["fullUrl"] = ask.full_url
    if ask.tree is not None:
        made["resource"] = ask.tree
    if ask.change is not None and ask.by_path:
        made["resource"] = fhirpath_patch(ask)
    elif ask.change is not None:
        data = base64.b64encode(orjson.dumps(json_patch(ask))).decode()
        made["resource"] = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": data}
    return made


def json_patch(ask: Ask) -> list[dict[str, Any]]:
    """add replaces what is there; remove of nothing would fail, so it is added before."""
    assert ask.change
    name, value = ask.change
    if value is None:
        return [{"op": "add", "path": f"/{name}", "value": True}, {"op": "remove", "path": f"/{name}"}]
    return [{"op": "add", "path": f"/{name}", "value": value}]


def fhirpath_patch(ask: Ask) -> dict[str, Any]:
    assert ask.change
    name, value = ask.change
    delete = [("type", {"valueCode": "delete"}), ("path", {"valueString": f"{ask.type}.{name}"})]
    operations = [delete]
    if value is not None:
        kind = "valueBoolean" if isinstance(value, bool) else "valueDate" if name == "birthDate" else "valueCode"
        if name == "name":
            kind = "valueString"
        operations.append(
            [
                ("type", {"valueCode": "add"}),
                ("path", {"valueString": ask.type}),
                ("name", {"valueString": name}),
                ("value", {kind: value}),
            ]
        )
    parameter = [{"name": "operation", "part": [{"name": part} | what for part, what in one]} for one in operations]
    return {"resourceType": "Parameters", "parameter": parameter}


def outcome(answer: httpx.Response) -> list[tuple[str, str]]:
    """Severity and code of each issue of an OperationOutcome, in either format."""
    if "xml" in answer.headers["content-type"]:
        root = etree.fromstring(answer.content)
        assert root.tag == f"{{{FHIR}}}OperationOutcome"
        issues = [node(one)[2] for one in root.findall(f"{{{FHIR}}}issue")]
        told = [{name: value for name, value, _ in issue} for issue in issues]
        return [(one["severity"] or "", one["code"] or "") for one in told]
    tree = answer.json()
    assert tree["resourceType"] == "OperationOutcome"
    return [(one["severity"], one["code"]) for one in tree["issue"]]


def in_form(tree: Tree, form: str) -> bytes:
    return orjson.dumps(tree) if form == "json" else etree.tostring(element_of(tree["resourceType"], tree))


def element_of(name: str, value: Any) -> Any:
    made = etree.Element(f"{{{FHIR}}}{name}", nsmap={None: FHIR})
    if not isinstance(value, dict):
        made.set("value", json.dumps(value) if isinstance(value, bool) else str(value))
        return made
    for part, held in value.items():
        if part != "resourceType":
            made.extend(element_of(part, one) for one in (held if isinstance(held, list) else [held]))
    return made


def nodes(answer: httpx.Response) -> Node:
    """The resource of an answer."""
    if "xml" in answer.headers["content-type"]:
        return node(etree.fromstring(answer.content))
    tree = answer.json()
    return node_of(tree)


def node_of(tree: Tree | None) -> Node:
    assert tree is not None
    return node(element_of(tree["resourceType"], tree))


def node(element: Any) -> Node:
    """Name, value and children; the order of elements of different names is not looked at."""
    inside = sorted((node(one) for one in element), key=lambda one: one[0])
    return etree.QName(element).localname, element.get("value"), tuple(inside)
