"""Send what the model asks over HTTP, and hold the answer to what is due: status, headers, body, history, pages.

Source:  FHIR R4 http.html, search.html, bundle.html
"""

from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from tests.api.model import Ask, Due, Key, Refused, State, Tree, Version, referred
from tests.api.model_forms import MEDIA, address, entry, fhirpath_patch, in_form, json_patch, node_of, nodes, outcome


class Client:
    """One client of the server. state: as it is after the request; a search or history is compared page by page."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.base = str(http.base_url).rstrip("/")

    # ---- one request

    def send(self, ask: Ask, headers: dict[str, str], *, sent: str = "json", wanted: str = "json") -> httpx.Response:
        said = {"Accept": MEDIA[wanted], **headers}
        named = {"If-Match": ask.if_match, "If-None-Match": ask.if_none_match, "If-None-Exist": ask.if_none_exist}
        said |= {name: value for name, value in named.items() if value and name not in headers}
        content = None
        if ask.tree is not None:
            content, said["Content-Type"] = in_form(ask.tree, sent), MEDIA[sent]
        if ask.change is not None and not ask.by_path:
            content, said["Content-Type"] = orjson.dumps(json_patch(ask)), "application/json-patch+json"
        elif ask.change is not None:
            content, said["Content-Type"] = in_form(fhirpath_patch(ask), sent), MEDIA[sent]
        return self.http.request(ask.method, address(ask), content=content, headers=said)

    def told(self, answer: httpx.Response, ask: Ask, due: Due) -> dict[str, Any]:
        """What an entry of a Bundle tells: the status, where it is now and when it came there."""
        status = 200 if is_told_deleted(ask, answer) else due.status
        assert answer.status_code == status, (answer.status_code, due, answer.text)
        told = {"status": str(due.status), "location": answer.headers.get("location", "")}
        if due.wrote and due.key and due.version:
            id = told["location"].split("/")[-3] if due.key[1].startswith("?") else due.key[1]
            history = self.http.get(f"/{due.key[0]}/{id}/_history?_count=1").json()
            told["lastModified"] = history["entry"][0]["response"]["lastModified"]
        return told

    def is_written(self, answer: httpx.Response, ask: Ask, due: Due, prefer: str | None) -> None:
        """A write was answered as it must be."""
        if due.version is not None:
            assert answer.headers.get("etag") == due.version.etag
        if ask.method == "DELETE":
            assert is_told_deleted(ask, answer) if prefer == "return=OperationOutcome" else answer.content == b""
            return
        assert due.key
        assert due.version
        assert answer.headers["location"] == f"{self.base}/{'/'.join(due.key)}/_history/{due.version.number}"
        self._is_dated(answer, due.version)
        if prefer == "return=minimal":
            assert answer.content == b""
        elif prefer == "return=OperationOutcome":
            issues = outcome(answer)
            assert {severity for severity, _ in issues} == {"information"}
        else:
            assert nodes(answer) == node_of(due.version.body)

    def _is_dated(self, answer: httpx.Response, version: Version) -> None:
        told = parsedate_to_datetime(answer.headers["last-modified"]).isoformat()[:19]
        assert told == version.updated[:19]

    def is_refused(self, answer: httpx.Response, statuses: Sequence[int], *, shown: bool = True) -> None:
        """With an OperationOutcome, where a body is shown."""
        assert answer.status_code in statuses, (answer.status_code, statuses, answer.text)
        assert not shown or all(severity in ("error", "fatal") for severity, _ in outcome(answer))

    def reads(self, state: State, ask: Ask, wanted: str = "json") -> None:
        """A read, a vread, or a HEAD."""
        answer = self.send(ask, {}, wanted=wanted)
        try:
            due = state.perform(ask, "")
        except Refused as refused:
            self.is_refused(answer, refused.statuses, shown=ask.method == "GET")
            return
        assert answer.status_code == due.status, (answer.status_code, due, ask)
        assert due.version
        assert answer.headers["etag"] == due.version.etag
        self._is_dated(answer, due.version)
        if ask.method == "HEAD" or due.status == 304:
            assert answer.content == b""
        else:
            assert nodes(answer) == node_of(due.version.body)

    # ---- Bundles

    def bundle(self, kind: str, asks: list[Ask], prefer: str | None) -> httpx.Response:
        body = {"resourceType": "Bundle", "type": kind, "entry": [entry(ask) for ask in asks]}
        headers = {"Content-Type": MEDIA["json"]} | ({"Prefer": prefer} if prefer else {})
        return self.http.post("", content=orjson.dumps(body), headers=headers)

    def entries(self, answer: httpx.Response, kind: str, asks: list[Ask]) -> list[dict[str, Any]]:
        assert answer.status_code == 200, answer.text
        tree = answer.json()
        assert tree["type"] == kind
        assert len(tree["entry"]) == len(asks)
        return list(tree["entry"])

    def is_refused_entry(self, entry: dict[str, Any], statuses: tuple[int, ...], place: int) -> None:
        response = entry["response"]
        assert int(response["status"][:3]) in statuses, (response, statuses)
        places = [one["expression"][0] for one in response["outcome"]["issue"]]
        assert all(one.startswith(f"Bundle.entry[{place}]") for one in places), places

    def is_answered(self, entry: dict[str, Any], ask: Ask, due: Due, prefer: str | None) -> None:
        """An entry of an answer. What was written is shown where the client prefers it."""
        response = entry["response"]
        assert int(response["status"][:3]) == due.status, (response, due, ask)
        if due.found is not None:
            found = entry.get("resource", {}).get("entry", [])
            if ask.method == "GET":
                assert {(one["resource"]["resourceType"], one["resource"]["id"]) for one in found} == due.found
            return
        if due.version is None:
            assert "etag" not in response
            return
        assert response["etag"] == due.version.etag, (response, due, ask)
        assert response["lastModified"] == due.version.updated
        if due.status == 304 or ask.method in ("DELETE", "HEAD"):
            assert "resource" not in entry
            return
        if ask.method != "GET":
            assert due.key
            assert response["location"] == f"{'/'.join(due.key)}/_history/{due.version.number}"
        if ask.method == "GET" or prefer == "return=representation":
            assert entry["resource"] == due.version.body
        else:
            assert "resource" not in entry

    # ---- history

    def histories(self, state: State, key: Key, wide: str, count: int | None, by: str, moment: int) -> None:
        """All pages of a history are the versions of the model, newest first."""
        kind, id = key
        keys = [key] if wide == "instance" else [one for one in state.versions if wide == "system" or one[0] == kind]
        path = {"instance": f"/{kind}/{id}/_history", "type": f"/{kind}/_history", "system": "/_history"}[wide]
        query = {"_count": str(count)} if count else {}
        versions = [(one, version) for one in keys for version in state.versions.get(one, [])]
        if wide == "instance" and not versions:
            assert self.http.get(path, params=query).status_code == 404
            return
        if by and versions:
            at = sorted(version.updated for _, version in versions)[moment % len(versions)]
            if by == "_at.second":
                by, at = "_at", at[:19] + "Z"
            query[by] = at
            versions = [one for one in versions if seen(state, *one, by, at)]
        found = self._walk(path, query, set(state.versions))
        assert sorted((one, number) for one, number, _ in found) == sorted((one, v.number) for one, v in versions)
        held = {(one, version.number): version for one, version in versions}
        for one, number, shown in found:
            self._is_version(shown, one, held[one, number])
        commits = {(one, number): place for place, one, number in committed(state)}
        order = [commits[one, number] for one, number, _ in found]
        assert order == sorted(order, reverse=True)
        for one in keys:
            numbers = [number for this, number, _ in found if this == one]
            assert numbers == sorted(numbers, reverse=True)

    def _walk(self, path: str, query: dict[str, str], ours: set[Key]) -> list[tuple[Key, int, dict[str, Any]]]:
        """The entries of this run, which are the newest: (resource, version, entry)."""
        found: list[tuple[Key, int, dict[str, Any]]] = []
        page = self.http.get(path, params=query)
        while True:
            assert page.status_code == 200, page.text
            tree = page.json()
            assert tree["type"] == "history"
            assert len(tree.get("entry", ())) <= int(query.get("_count", 20))
            mine = []
            for one in tree.get("entry", ()):
                kind, id = one["fullUrl"].removeprefix(f"{self.base}/").split("/")
                if (kind, id) in ours:
                    mine.append(((kind, id), int(one["response"]["etag"][3:-1]), one))
            found += mine
            following = next_of(tree)
            if following is None or not mine:
                return found
            page = self.http.get(following)

    def _is_version(self, shown: dict[str, Any], key: Key, version: Version) -> None:
        request, response = shown["request"], shown["response"]
        assert shown.get("resource") == version.body
        assert response["lastModified"] == version.updated
        if version.tree is None:
            assert (request["method"], request["url"]) == ("DELETE", "/".join(key))
            assert response["status"][:3] in ("200", "204")
        elif version.created:
            made = ("POST", key[0]) if version.made else ("PUT", "/".join(key))
            assert (request["method"], request["url"]) == made
            assert response["status"][:3] == "201"
        else:
            assert (request["method"], request["url"], response["status"][:3]) == ("PUT", "/".join(key), "200")

    # ---- search

    def searches(self, state: State, kind: str, query: str, more: dict[str, str], *, post: bool = False) -> None:
        """All pages of a search are what matches, each once, each page with what belongs to it."""
        due, found = set(state.matching(kind, query)), list[Key]()
        text = "&".join([query, *(f"{name}={quote(value)}" for name, value in more.items())])
        if post:
            media = {"Content-Type": "application/x-www-form-urlencoded"}
            page = self.http.post(f"/{kind}/_search", content=text.encode(), headers=media)
        else:
            page = self.http.get(f"/{kind}?{text}")
        while True:
            assert page.status_code == 200, page.text
            tree = page.json()
            assert tree["type"] == "searchset"
            assert tree.get("total", None if more.get("_total") == "accurate" else len(due)) == len(due)
            keys, beside = (self._shown(state, tree, mode) for mode in ("match", "include"))
            assert len(keys) <= int(more.get("_count", 20))
            assert len(beside) == len(set(beside))
            assert set(beside) == around(state, keys, more), (keys, beside)
            found += keys
            if (following := next_of(tree)) is None:
                break
            page = self.http.get(following)
        assert sorted(found) == sorted(due)
        if sort := more.get("_sort"):
            told = [key[1] if "_id" in sort else state.versions[key][-1].updated for key in found]
            assert told == sorted(told, reverse=sort.startswith("-"))

    def _shown(self, state: State, tree: Tree, mode: str) -> list[Key]:
        """Resources that a page shows, each as it stands."""
        keys = []
        for one in tree.get("entry", ()):
            if one["search"]["mode"] == mode:
                key = one["resource"]["resourceType"], one["resource"]["id"]
                version = state.current(key)
                assert version is not None
                assert (one["resource"], one["fullUrl"]) == (version.body, f"{self.base}/{'/'.join(key)}")
                keys.append(key)
        return keys


def next_of(tree: Tree) -> str | None:
    """The address of the next page."""
    return next((str(link["url"]) for link in tree["link"] if link["relation"] == "next"), None)


def around(state: State, keys: list[Key], more: dict[str, str]) -> set[Key]:
    """What _include and _revinclude bring beside these matches."""
    found: set[Key] = set()
    if "_include" in more:
        for key in keys:
            version = state.current(key)
            target = referred(version.tree) if version and version.tree else None
            if target and state.current(target):
                found.add(target)
    if "_revinclude" in more:
        kind = more["_revinclude"].partition(":")[0]
        found |= {key for key, tree in state.standing(kind) if referred(tree) in keys}
    return found - set(keys)


def seen(state: State, key: Key, version: Version, by: str, at: str) -> bool:
    """Whether _since or _at shows the version."""
    if by == "_since":
        return version.updated >= at
    held = state.versions[key]
    following = held[version.number].updated if len(held) > version.number else "9"
    last = at if "." in at else at[:19] + ".999Z"
    first = at if "." in at else at[:19] + ".000Z"
    return version.updated <= last and first < following


def committed(state: State) -> list[tuple[int, Key, int]]:
    """(Place of the commit, resource, version)."""
    count: dict[Key, int] = {}
    told = []
    for place, keys in enumerate(state.commits):
        for key in keys:
            count[key] = count.get(key, 0) + 1
            told.append((place, key, count[key]))
    return told


def is_told_deleted(ask: Ask, answer: httpx.Response) -> bool:
    """Whether a deletion is answered with an outcome, and so not with 204."""
    return ask.method == "DELETE" and answer.status_code == 200 and {s for s, _ in outcome(answer)} == {"information"}
