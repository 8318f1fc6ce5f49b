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


def shown_as(answer: Answer, form: Form, *, pretty: bool = False, media: str | None = None) -> Answer:
    """The answer in this format; media: another type than FHIR's own by which the client named it."""
    if not answer.body or JSON_HEADER not in answer.headers or (form == "json" and not pretty and media is None):
        return answer
    body = answer.body
    if form == "xml":
        body = to_xml(body, pretty=pretty)
    elif pretty:
        body = indented(body)
    own = JSON_HEADER if form == "json" else _XML_HEADER
    shown = own if media is None else (b"content-type", f"{media}; charset=utf-8".encode())
    return Answer(answer.status, body, [shown, *(header for header in answer.headers if header != JSON_HEADER)])
