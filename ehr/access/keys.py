"""The ES256 key that signs this installation's tokens: a file of the data directory, made at first start.

In:      data_dir/keys/token-signing.jwk (mode 600); token-retired-*.jwk beside it still verify after a rotation
Out:     SigningKeys: .sign(header, claims) and .verifying(kid); .public() is the JWKS of /oauth/jwks
Errors:  PermissionError where others may read the private key
Source:  RFC 7517, RFC 7638 (kid is the thumbprint)
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey

ALGORITHM: Final = "ES256"
_SIGNING: Final = "token-signing.jwk"
_RETIRED: Final = "token-retired-*.jwk"


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """One key signs; it and the retired ones verify."""

    signing: ECKey
    known: Mapping[str, ECKey]

    def sign(self, kind: str, claims: dict[str, Any]) -> str:
        """A compact JWS with the typ that says what the token is for (RFC 9068 2.1)."""
        header = {"alg": ALGORITHM, "kid": self.signing.thumbprint(), "typ": kind}
        return jwt.encode(header, claims, self.signing, algorithms=[ALGORITHM])

    def public(self) -> dict[str, Any]:
        """The JWKS document: public halves only."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
                for kid, key in self.known.items()
            ]
        }


def load_keys(data_dir: Path) -> SigningKeys:
    """The installation's keys; the first process to ask makes the signing key, the others read it."""
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / _SIGNING
    if not path.exists():
        _make(path)
    signing = _read(path)
    known = {signing.thumbprint(): signing}
    for retired in sorted(folder.glob(_RETIRED)):
        key = _read(retired)
        known[key.thumbprint()] = key
    return SigningKeys(signing, known)


def _make(path: Path) -> None:
    """Write a new key beside the final name, then link it: of two processes one wins and nobody reads half a file."""
    key = ECKey.generate_key("P-256", private=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            json.dump(key.as_dict(private=True), file)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was first; its key is the installation's
    finally:
        draft.unlink()


def _read(path: Path) -> ECKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise PermissionError(f"{path.name} is readable by others; set its mode to 600")
    key = ECKey.import_key(json.loads(path.read_text(encoding="ascii")))
    if not key.is_private or key.curve_name != "P-256":
        raise ValueError(f"{path.name} is not a private P-256 key")
    return key
