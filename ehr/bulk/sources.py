"""The files an $import names → files of this installation.

In:      file:… or a bare path, below import_root; http(s) addresses that begin with one of import_urls
Out:     check()   refuses at once what can never be fetched
         fetched() the file itself, or what was downloaded into the job's spool folder
Errors:  NotSupported, Forbidden   where nothing may be fetched from; Unavailable   where it cannot be fetched now
Safety:  a host is asked for by the address that was checked, so that a name cannot lead elsewhere between the check
         and the call; loopback and private networks are refused unless import_private; redirects are not followed
Limits:  import_file_bytes_max a file; a server that is silent for import_silence_s is given up
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import httpx

from ehr import limits
from ehr.bulk.files import SUFFIXES
from ehr.errors import Forbidden, NotFound, NotSupported, TooMuch, Unavailable
from ehr.settings import Settings

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Source:
    """One file of NDJSON. type_name: of its resources, as the sender says; it decides which file is read first."""

    type_name: str
    url: str

    @property
    def is_remote(self) -> bool:
        return urlsplit(self.url).scheme in _PORTS

    @property
    def name(self) -> str:
        """What its lines are called by in errors."""
        return unquote(urlsplit(self.url).path).rsplit("/", 1)[-1]


def check(source: Source, settings: Settings, at: str) -> None:
    """Refuse what this installation will never fetch."""
    if not source.name.endswith(SUFFIXES):
        raise NotSupported(f"the file's name ends with one of {', '.join(SUFFIXES)}", at=at)
    if not source.is_remote:
        _place(source, settings, at)
    elif not any(_begins(source.url, allowed) for allowed in settings.import_urls):
        raise Forbidden("this address is not one that may be imported from (EHR_IMPORT_URLS)", at=at)


def _begins(url: str, allowed: str) -> bool:
    """The same scheme, host and port, and a path below the allowed one."""
    asked, known = urlsplit(url), urlsplit(allowed)
    if asked.username or asked.password or (asked.scheme, asked.netloc.lower()) != (known.scheme, known.netloc.lower()):
        return False
    folder = known.path.rstrip("/") + "/"
    return asked.path.startswith(folder) and ".." not in unquote(asked.path).split("/")


def _place(source: Source, settings: Settings, at: str) -> Path:
    """Where a local file lies; below the root, whatever links say."""
    parts = urlsplit(source.url)
    if parts.scheme not in ("", "file") or parts.netloc:
        raise NotSupported("a file is named by its path below the import folder, or by an https address", at=at)
    if settings.import_root is None:
        raise Forbidden("no folder may be imported from (EHR_IMPORT_ROOT)", at=at)
    root = settings.import_root.resolve()
    path = (root / unquote(parts.path)).resolve()
    if not path.is_relative_to(root):
        raise Forbidden("the file is not below the folder that may be imported from", at=at)
    if not path.is_file():
        raise NotFound("there is no such file in the folder that may be imported from", at=at)
    return path


async def fetched(source: Source, settings: Settings, spool: Path, number: int) -> Path:
    """A file of this installation with the source's content, packed as it is."""
    if not source.is_remote:
        return await asyncio.to_thread(_place, source, settings, "input.url")
    target = spool / f"{number}-{source.name}"
    await asyncio.to_thread(spool.mkdir, parents=True, exist_ok=True)
    try:
        await _download(source.url, target, private=settings.import_private)
    except httpx.HTTPError as error:
        raise Unavailable(f"{source.name} could not be fetched: {type(error).__name__}") from error
    return target


async def _download(url: str, target: Path, *, private: bool) -> None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = await _address(host, parts.port or _PORTS[parts.scheme], private=private)
    asked = httpx.URL(url).copy_with(host=address)
    headers = {"Host": parts.netloc, "Accept": "application/fhir+ndjson", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(limits.import_silence_s)
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream("GET", asked, headers=headers, extensions={"sni_hostname": host}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(f"the server answered {answer.status_code} for {target.name}")
        size = 0
        with target.open("wb") as file:
            async for piece in answer.aiter_raw():
                size += len(piece)
                if size > limits.import_file_bytes_max:
                    raise TooMuch(f"{target.name} has more than {limits.import_file_bytes_max} bytes")
                await asyncio.to_thread(file.write, piece)


async def _address(host: str, port: int, *, private: bool) -> str:
    """An address of the host that may be called."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"the host {host} is not known") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(ipaddress.ip_address(one.split("%")[0]).is_global for one in addresses):
        raise Forbidden("the host is on this machine or in a private network (EHR_IMPORT_PRIVATE)")
    return addresses[0]
