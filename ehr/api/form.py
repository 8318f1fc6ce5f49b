"""Show an answer in the format that was asked for: FHIR XML, or JSON with one value a line.

In:      an Answer; only FHIR JSON is changed: what has another type was made for another reader
Out:     the same answer, with the same status and validators
"""

from typing import Final

from ehr.api.answer import JSON_HEADER, Answer, Header
from ehr.api.negotiation import Form
from ehr.api.pretty import indented
from ehr.fhir.xml_writer import to_xml

_XML_HEADER: Final[Header] = (b"content-type", b"application/fhir+xml; charset=utf-8")


def shown_as(answer: Answer, form: Form, *, pretty: bool = False) -> Answer:
    """The answer in this format."""
    if not answer.body or JSON_HEADER not in answer.headers or (form == "json" and not pretty):
        return answer
    if form == "json":
        return answer.with_body(indented(answer.body))
    others = [header for header in answer.headers if header != JSON_HEADER]
    return Answer(answer.status, to_xml(answer.body, pretty=pretty), [_XML_HEADER, *others])
