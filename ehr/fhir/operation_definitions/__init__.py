"""The OperationDefinitions that this server serves; each file of this folder is one, and binds one handler.

Out:     OPERATIONS: id → Operation, as requests are held to it; bodies(): the resources as they are served
Source:  Resource-*, Patient-*, …: HL7's own of R4 4.0.1, without narrative (ehr/fhir/r4/compile_operations.py).
         The others are ours; `base` names HL7's where ours is a part of it (capabilitystatement.html, operation)
"""

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from ehr.fhir import codec
from ehr.fhir.operation import Operation, operation_of


def bodies() -> list[bytes]:
    """The definitions as resources, in the order of their ids."""
    found = [one for one in files(__name__).iterdir() if one.name.endswith(".json")]
    return [one.read_bytes() for one in sorted(found, key=lambda one: one.name)]


def _operations() -> dict[str, Operation]:
    read = [operation_of(codec.loads(body)) for body in bodies()]
    return {one.id: one for one in read}


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(_operations())
