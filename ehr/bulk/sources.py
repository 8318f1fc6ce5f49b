"""The files an $import names → files of this installation.

In:      file:… or a bare path, below import_root; http(s) addresses that begin with one of import_urls
Out:     check()   refuses at once what can never be fetched
         fetched() the file itself, or what was downloaded into the job's spool folder
Errors:  NotSupported, Forbidden   where nothing may be fetched from
         NotFound      what its server does not have or give; Unavailable   what cannot be fetched now
Safety:  a host is asked for by the address that was checked, so that a name cannot lead elsewhere between the check
         and the call; loopback and private networks are refused unless import_private; redirects are not followed
Limits:  import_file_bytes_max a file; a server that is silent for import_silence_s is given up
"""

import asyncio
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from ehr import limits
from ehr.bulk.files import SUFFIXES
from ehr.errors import Forbidden, Malformed, NotFound, NotSupported, TooMuch, Unavailable
from ehr.settings import Settings

_PORTS: Final = {"http": 80, "https": 443}
_LATER: Final = frozenset({408, 425, 429})
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""


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
        """What it is called by in errors and in the manifest: its address, without what may be a secret."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def check(source: Source, settings: Settings, at: str) -> None:
    """Refuse what this installation will never fetch."""
    try:
        path = unquote(urlsplit(source.url).path)
    except ValueError as error:
        raise Malformed("this is no address", at=at) from error
    if "\0" in path:
        raise Malformed("a path has no U+0000", at=at)
    if not path.endswith(SUFFIXES):
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
    root = Path(os.path.realpath(settings.import_root))
    path = Path(os.path.realpath(root / unquote(parts.path)))
    if not path.is_relative_to(root):
        raise Forbidden("the file is not below the folder that may be imported from", at=at)
    if not os.path.isfile(path):
        raise NotFound("there is no such file in the folder that may be imported from", at=at)
    return path


async def fetched(source: Source, settings: Settings, target: Path) -> Path:
    """A file of this installation with the source's content, packed as it is; one that is remote becomes the target."""
    if not source.is_remote:
        return await asyncio.to_thread(_place, source, settings, "input.url")
    if await asyncio.to_thread(target.exists):
        return target
    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    try:
        await _download(source, partial, private=settings.import_private)
    except httpx.HTTPError as error:
        raise Unavailable(f"{source.name} could not be fetched: {type(error).__name__}") from error
    return await asyncio.to_thread(partial.replace, target)


async def _download(source: Source, target: Path, *, private: bool) -> None:
    parts = urlsplit(source.url)
    host = parts.hostname or ""
    address = await _address(host, parts.port or _PORTS[parts.scheme], private=private)
    asked = httpx.URL(source.url).copy_with(host=address)
    headers = {"Host": parts.netloc, "Accept": "application/fhir+ndjson", "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(limits.import_silence_s)
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream("GET", asked, headers=headers, extensions={"sni_hostname": host}) as answer,
    ):
        _check_answer(answer, source.name)
        size = 0
        with target.open("wb") as file:
            async for piece in answer.aiter_bytes():  # some servers compress, whatever is accepted
                size += len(piece)
                if size > limits.import_file_bytes_max:
                    raise TooMuch(f"{source.name} has more than {limits.import_file_bytes_max} bytes")
                await asyncio.to_thread(file.write, piece)


def _check_answer(answer: httpx.Response, name: str) -> None:
    """Only a 200 is the file; what will not become one is not asked for again."""
    status = answer.status_code
    if answer.is_redirect:
        raise NotSupported(f"the server answered {status} for {name}; redirects are not followed")
    if answer.is_client_error and status not in _LATER:
        raise NotFound(f"the server answered {status} for {name}")
    if status != httpx.codes.OK:
        raise Unavailable(f"the server answered {status} for {name}")


async def _address(host: str, port: int, *, private: bool) -> str:
    """An address of the host that may be called."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"the host {host} is not known") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not private and not all(_is_public(one) for one in addresses):
        raise Forbidden("the host is on this machine or in a private network (EHR_IMPORT_PRIVATE)")
    return addresses[0]


def _is_public(text: str) -> bool:
    """Whether an address belongs to one host of the internet; of an IPv6 address that stands for one of IPv4, that."""
    address = ipaddress.ip_address(text.split("%", maxsplit=1)[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATED else address.sixtofour
        address = address.ipv4_mapped or inner or address
    return address.is_global and not address.is_multicast
