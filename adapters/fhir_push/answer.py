"""An HTTP answer as the ledger keeps it: the status on a line of its own, then the body.

Why:     a repeat must get the status of the first answer too.
"""

from collections.abc import Mapping
from typing import Any

from ehr.errors import EhrError
from ehr.fhir import codec
from ehr.fhir.outcome import of_error


def packed(status: int, tree: Mapping[str, Any]) -> bytes:
    return str(status).encode() + b"\n" + codec.dumps(tree)


def unpacked(answer: bytes) -> tuple[int, bytes]:
    status, _, body = answer.partition(b"\n")
    return int(status), body


def outcome(error: EhrError) -> dict[str, Any]:
    return of_error(error)
