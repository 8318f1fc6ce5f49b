"""One message being mapped: the message, the Bundle in the making, and every fault found on the way.

Out:     result() is the Bundle, or all issues; never half a Bundle
Why:     a sender who gets one fault at a time sends one message ten times.
"""

from copy import copy
from dataclasses import dataclass, field

from adapters.draft import Draft, Tree
from adapters.hl7v2 import datatypes
from adapters.hl7v2.message import Element, Message, Segment
from adapters.moments import VIETNAM_OFFSET, Unreadable, date_time, earlier, offset_of
from adapters.port import Mapped, Origin
from ehr.clock import instant
from ehr.errors import Issue
from ehr.fhir.vietnam import columns_extension

CLAIM_SEGMENT = "ZCC"
"""Claim columns of the segment before it: ZCC|MA_NHOM^4~DON_GIA^1200.000 (ehr.fhir.vietnam, CLAIM_COLUMNS)."""


@dataclass(slots=True)
class Reading:
    message: Message
    origin: Origin
    offset: str = VIETNAM_OFFSET
    draft: Draft = field(init=False)
    issues: list[Issue] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draft = Draft(self.origin)
        self.offset = offset_of(self.message.header.text(7)) or self.offset
        event = self.message.find("EVN")
        moment = self.moment(event, 2) if event else None
        self.draft.message_time = self._written(moment or self.moment(self.message.header, 7))

    def _written(self, moment: str | None) -> str | None:
        """When the message was written, where its time orders it among others."""
        if moment is None or len(moment) <= len("2026-11-23"):
            return None  # a day does not order two messages of that day
        if self.origin.received is None:
            return moment
        # a clock that is ahead must not make what comes after it was set right late
        received = instant(self.origin.received.replace(microsecond=0))
        return received if earlier(received, moment) else moment

    def about(self, part: Message) -> "Reading":
        """The same reading, Bundle and faults included, of a part of the message."""
        reading = copy(self)
        reading.message = part
        return reading

    def fault(self, code: str, text: str, at: str) -> None:
        self.issues.append(Issue(code, text, at))

    def moment(self, segment: Segment | None, number: int) -> str | None:
        """A date-time field as FHIR dateTime; None where it is empty, an issue where it is none."""
        if segment is None:
            return None
        return self.moment_of(segment.text(number), segment.path(number))

    def moment_of(self, text: str, at: str) -> str | None:
        try:
            return date_time(text, self.offset)
        except Unreadable as error:
            self.fault("value", str(error), at)
            return None

    def day(self, segment: Segment, number: int) -> str | None:
        """A date field as FHIR date; a time in it is left away."""
        moment = self.moment(segment, number)
        return moment.split("T", maxsplit=1)[0] if moment else None

    def concept(self, segment: Segment, number: int) -> Tree | None:
        return self.concept_of(segment.first(number))

    def concept_of(self, element: Element) -> Tree | None:
        return datatypes.concept(element, self.origin.facility_code)

    def claim_columns(self, after: Segment) -> Tree | None:
        """The extension made of the ZCC segments that follow a segment directly."""
        columns: dict[str, str] = {}
        for segment in after.message.after(after, CLAIM_SEGMENT):
            for pair in segment.repetitions(1):
                name = pair.text(1)
                if not name.replace("_", "").isalnum() or not name.isupper():
                    self.fault("value", "ZCC-1 holds pairs NAME^value", segment.path(1))
                elif pair.component(2):
                    columns[name] = pair.component(2)
        return columns_extension(columns) if columns else None

    def result(self) -> Mapped:
        if self.issues:
            return self.issues
        assert len(self.draft), "a mapper without issues wrote something"
        return self.draft.bundle()
