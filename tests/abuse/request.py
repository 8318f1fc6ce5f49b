"""One generated request, and how it is sent."""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import httpx

JSON = "application/fhir+json"
XML = "application/fhir+xml"


@dataclass(frozen=True)
class Asked:
    """path is quoted already; query and headers are as meant."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def target(self) -> str:
        return self.path + ("?" + urlencode(self.query) if self.query else "")

    def request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request of a client; what the request says itself stands over the client's own headers."""
        return client.build_request(self.method, self.target, headers=self.headers, content=self.body)

    def __str__(self) -> str:
        shown = f"{self.method} {self.target} {self.headers or ''} {self.body!r}"
        return shown if len(shown) < 1_500 else f"{shown[:1_500]}… ({len(shown)})"


def address(*parts: str) -> str:
    """Segments of a path, each quoted as a client must."""
    return "/".join(part if part.startswith("/") else quote(part, safe="$@:") for part in parts)


def posted(path: str, tree: Any, *, method: str = "POST", media: str = JSON) -> Asked:
    """A JSON body to an address."""
    return Asked(method, path, headers={"Content-Type": media}, body=json.dumps(tree).encode())
