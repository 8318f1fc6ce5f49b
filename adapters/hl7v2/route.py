"""Find the mapper of a message by MSH-9, or say that there is none.

Errors:  NotSupported (AR): ERR 200 for a message type, 201 for an event, at MSH-9; 202 at MSH-11 for what is no
         production: patients of a training or a test are nobody's, and are never asked for again
Source:  HL7 v2.5.1 tables 0076 (message types), 0003 (events), 0103 (processing ID), 0357 (error codes)
"""

from collections.abc import Mapping
from typing import Final

from adapters.hl7v2 import adt
from adapters.hl7v2.dft import dft
from adapters.hl7v2.mdm import mdm
from adapters.hl7v2.message import Message
from adapters.hl7v2.orm import orm
from adapters.hl7v2.oru import oru
from adapters.hl7v2.ppr import ppr
from adapters.hl7v2.siu import siu
from adapters.hl7v2.vxu import vxu
from adapters.port import Mapped, Mapper, Origin
from ehr.errors import Issue, NotSupported

_EVENTS: Final[Mapping[str, Mapping[str, Mapper[Message]]]] = {
    "ADT": {event: adt.merge if event in adt.MERGES else adt.adt for event in adt.EVENTS},
    "ORU": dict.fromkeys(("R01", "R03", "R30", "R32"), oru),
    "ORM": {"O01": orm},
    "OML": dict.fromkeys(("O21", "O33", "O35"), orm),
    "OMG": {"O19": orm},
    "OMP": {"O09": orm},
    "RDE": dict.fromkeys(("O01", "O11", "O25"), orm),
    "VXU": {"V04": vxu},
    "MDM": dict.fromkeys((f"T{number:02}" for number in range(1, 12)), mdm),
    "SIU": dict.fromkeys(("S12", "S13", "S14", "S15", "S16", "S17", "S26"), siu),
    "DFT": dict.fromkeys(("P03", "P11"), dft),
    "PPR": dict.fromkeys(("PC1", "PC2"), ppr),
}

SUPPORTED: Final = tuple(f"{code}^{event}" for code, events in _EVENTS.items() for event in sorted(events))
"""What the listener understands, as "ADT^A01"."""


_PRODUCTION: Final = frozenset({"P", ""})
"""Some senders leave MSH-11 out."""


def mapper(message: Message) -> Mapper[Message]:
    if message.header.text(11, 1).upper() not in _PRODUCTION:
        text = (
            "only messages of production (P) are read here; send those of a training or a test to a record of their own"
        )
        raise NotSupported(text, issues=[Issue("unknown-processing", text, "MSH-11")])
    code, event = message.type
    events = _EVENTS.get(code)
    if events is None:
        raise NotSupported("this message type is not read here", at="MSH-9.1")
    # v2.1 and v2.2 messages with one event of their type may leave MSH-9.2 out; EVN-1 or the type alone tells it
    if not event:
        header = message.find("EVN")
        event = (header.text(1).upper() if header else "") or (next(iter(events)) if len(events) == 1 else "")
    found = events.get(event)
    if found is None:
        text = "this event of the message type is not read here"
        raise NotSupported(text, issues=[Issue("unknown-event", text, "MSH-9.2")])
    return found


def bundle_of(message: Message, origin: Origin) -> Mapped:
    """A parsed message as a transaction Bundle, or every reason why it is none."""
    return mapper(message)(message, origin)
