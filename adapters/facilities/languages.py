"""Say an episode in the language of its facility.

In:      Episode; which claim files to spoil
Out:     Outgoing in order of time: HL7 v2 messages, FHIR Bundles at arrival and departure, one claim file at the end
"""

from collections.abc import Callable

from adapters.facilities import bundle, claim_xml, hl7
from adapters.facilities.episode import Episode
from adapters.facilities.outgoing import Outgoing

Spoil = Callable[[str], str]


def messages(episode: Episode, *, spoil: Spoil | None = None) -> list[Outgoing]:
    """spoil changes the tables of a claim file, which base64 hides from everybody later."""
    feed = episode.facility.feed
    if feed == "hl7v2":
        return hl7.messages(episode)
    number = episode.link.replace(".", "")
    if feed == "fhir":
        begin, end = f"{number}01", f"{number}02"
        return [
            Outgoing(episode.arrival, "transaction", begin, bundle.arrival(episode, begin)),
            Outgoing(episode.paid, "transaction", end, bundle.departure(episode, end)),
        ]
    return [Outgoing(episode.paid, "GIAMDINHHS", claim_number(episode), claim_xml.envelope(episode, spoil=spoil))]


def claim_number(episode: Episode) -> str:
    """The number of an episode's claim file in its facility."""
    return episode.link.replace(".", "") + "01"
