"""The operations of /fhir: the id of an OperationDefinition → the handler it binds.

Source:  FHIR R4 operations.html; OperationDefinitions in ehr/fhir/operation_definitions
"""

from collections.abc import Sequence
from typing import Final, cast

from ehr.api import bulk, bundle_writer, view_run
from ehr.api import fhir_documents as documents
from ehr.api import fhir_meta as metas
from ehr.api import fhir_terminology as coded
from ehr.api.answer import Answer, json_answer, outcome_answer
from ehr.api.bundle_writer import Stored
from ehr.api.exchange import Exchange
from ehr.api.fhir_lastn import lastn_of
from ehr.api.links import page_links
from ehr.api.moments import page_count_of, period_of, since_of
from ehr.api.negotiation import not_modified_tag
from ehr.api.operation import Binding
from ehr.api.part import PART, part_of, shown_part
from ehr.bulk import import_request
from ehr.errors import Forbidden, Issue, NotSupported
from ehr.fhir.operation_arguments import Arguments
from ehr.operations.encounter_everything import encounter_everything
from ehr.operations.everything import Root, Wanted, everything
from ehr.operations.summary import summary
from ehr.operations.validate import Asked, validate

_PAGE: Final = "_page"
_EVERYTHING: Final = frozenset({_PAGE, *PART})


async def everything_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """$everything of a Patient or a Person; of the type Patient, for a citizen, who is one person."""
    start, end = arguments.one("start"), arguments.one("end")
    wanted = Wanted(
        types=arguments.listed("_type"),
        since=since_of(arguments.one("_since")),
        start=period_of(start, "start")[0] if start else None,
        end=period_of(end, "end")[1] if end else None,
        count=page_count_of(arguments.one("_count")),
        cursor=exchange.parameter(_PAGE),
    )
    root, id = _root(exchange)
    part = part_of(exchange)
    found = await everything(exchange.record, exchange.caller, root, id, wanted)
    matches = [shown_part(one, part) for one in found.matches]
    included = [shown_part(one, part) for one in found.included]
    return json_answer(200, _searchset(exchange, arguments, matches, included, found.next_cursor))


async def encounter_everything_of(exchange: Exchange, arguments: Arguments) -> Answer:
    """$everything of an Encounter."""
    part = part_of(exchange)
    found = await encounter_everything(
        exchange.record,
        exchange.caller,
        exchange.path["id"],
        types=arguments.listed("_type"),
        since=arguments.one("_since"),
        count=page_count_of(arguments.one("_count")),
        cursor=exchange.parameter(_PAGE),
    )
    matches = [shown_part(one, part) for one in found.matches]
    included = [shown_part(one, part) for one in found.included]
    return json_answer(200, _searchset(exchange, arguments, matches, included, found.next_cursor))


def _searchset(
    exchange: Exchange,
    arguments: Arguments,
    matches: Sequence[Stored],
    included: Sequence[Stored],
    next_cursor: str | None,
) -> bytes:
    """A page of a record, with the address of the next one."""
    return bundle_writer.searchset(
        base=exchange.base,
        matches=matches,
        included=included,
        issues=[],
        total=None,
        links=page_links(
            exchange.address("$everything"),
            [*arguments.as_query(), *(one for one in exchange.query if one[0] in _EVERYTHING), *exchange.looks],
            cursor_name=_PAGE,
            next_cursor=next_cursor,
            previous_cursor=None,
        ),
        now=exchange.record.clock.now(),
    )


def _root(exchange: Exchange) -> tuple[Root, str]:
    if "id" in exchange.path:
        return cast("Root", exchange.type_name), exchange.path["id"]
    if exchange.caller.person_id is None:
        raise NotSupported("name the one whose record is meant: Patient/[id]/$everything", at="id")
    return "Person", exchange.caller.person_id


async def summary_of(exchange: Exchange, _: Arguments) -> Answer:
    """$summary of a Patient or a Person: the IPS document of the whole person."""
    root, id = cast("Root", exchange.type_name), exchange.path["id"]
    document = await summary(exchange.record, exchange.caller, root, id, base_url=exchange.base)
    etag = (b"etag", document.etag.encode())
    if not_modified_tag(exchange.headers.get("if-none-match"), document.etag):
        return Answer(304, b"", [etag])
    return json_answer(200, document.body, etag)


async def validate_one(exchange: Exchange, arguments: Arguments) -> Answer:
    """$validate of a type or an instance: 200 with an OperationOutcome, whatever it finds."""
    type_name = exchange.type_name
    if not any(exchange.caller.grants.allow(type_name, action) for action in ("c", "u", "r", "s", "d")):
        raise Forbidden(f"the token grants nothing on {type_name}")
    asked = Asked(
        type_name,
        exchange.path.get("id"),
        arguments.one("resource"),
        mode=arguments.one("mode"),
        profile=arguments.one("profile"),
    )
    issues = await validate(exchange.record, exchange.caller, asked)
    return outcome_answer(200, issues or [Issue("informational", "the resource is valid", severity="information")])


BINDINGS: Final = [
    Binding("export", bulk.export_of),
    Binding("Patient-export", bulk.export_of),
    Binding("Group-export", bulk.export_of),
    Binding("import", bulk.import_of, reads=import_request.parameters_of),
    Binding("Encounter-everything", encounter_everything_of, beyond=_EVERYTHING),
    Binding("Patient-everything", everything_of, beyond=_EVERYTHING),
    Binding("Person-everything", everything_of, beyond=_EVERYTHING),
    Binding("summary", summary_of),
    Binding("document", documents.document_of),
    Binding("docref", documents.docref_of, beyond=frozenset({_PAGE})),
    Binding("Observation-lastn", lastn_of, searches=True),
    Binding("meta", metas.meta_of, versions=True),
    Binding("Resource-meta-add", metas.add),
    Binding("Resource-meta-delete", metas.delete),
    Binding("Resource-validate", validate_one, judges=True),
    Binding("ValueSet-expand", coded.expand_of),
    Binding("ValueSet-validate-code", coded.validate_code_of),
    Binding("CodeSystem-lookup", coded.lookup_of),
    Binding("CodeSystem-validate-code", coded.validate_code_of_system_of),
    Binding("CodeSystem-subsumes", coded.subsumes_of),
    Binding("ConceptMap-translate", coded.translate_of),
    view_run.BINDING,
]
"""Every OperationDefinition of ehr/fhir/operation_definitions, bound to what it does."""
