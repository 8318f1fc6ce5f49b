"""Observation/$lastn over HTTP: its parameters are those of a search of Observation, and max.

Source:  FHIR R4 observation-operation-lastn.html
"""

from ehr.api import bundle_writer
from ehr.api.answer import Answer, json_answer
from ehr.api.exchange import Exchange
from ehr.api.links import page_links
from ehr.fhir.operation_arguments import Arguments
from ehr.operations.lastn import lastn


async def lastn_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """A searchset of all at once: the most recent of each code."""
    found = await lastn(exchange.record, exchange.caller, arguments.beyond, arguments.one("max") or 1)
    body = bundle_writer.searchset(
        base=exchange.base,
        matches=found,
        included=[],
        issues=[],
        total=len(found),
        links=page_links(
            exchange.address("$lastn"),
            [*arguments.beyond, *arguments.as_query(), *exchange.looks],
            cursor_name="_page",
            next_cursor=None,
            previous_cursor=None,
        ),
        now=exchange.record.clock.now(),
    )
    return json_answer(200, body)
