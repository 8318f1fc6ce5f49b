"""Render pages: one template environment, the same headers on every answer.

Headers  no-store (pages hold a person's data) and a content security policy that allows our own files only
Filters  day: FHIR date or dateTime → dd/MM/yyyy; moment: → dd/MM/yyyy HH:mm:ss, both in Viet Nam; age: seconds → words
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, Final, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from ehr.clock import ICT, local
from ehr.web.phrases import LANGUAGES, Language, phrase

LANGUAGE_COOKIE: Final = "ehr_language"
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    " img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def day(value: object) -> str:
    """The calendar day of a FHIR date or dateTime in Viet Nam; a partial date keeps its precision."""
    if isinstance(value, date):
        return value.strftime("%d/%m/%Y")
    return "/".join(reversed(local(str(value or ""))[:10].split("-")))


def moment(value: object) -> str:
    """A datetime or FHIR instant in Viet Nam's time; a dash for none."""
    if value is None or value == "":
        return "—"
    known = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return (known if known.tzinfo else known.replace(tzinfo=UTC)).astimezone(ICT).strftime("%d/%m/%Y %H:%M:%S")


def age(seconds: float) -> str:
    """Seconds in the largest unit that keeps two figures: 45 s, 12 min, 3.5 h, 2.1 d."""
    if seconds <= 0:
        return "—"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7_200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("ehr.web"), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
)
_ENVIRONMENT.filters.update(day=day, moment=moment, age=age)


def language_of(request: Request) -> Language:
    """?lang=, else the cookie of an earlier choice, else Vietnamese."""
    wanted = request.query_params.get("lang") or request.cookies.get(LANGUAGE_COOKIE)
    return next((known for known in LANGUAGES if known == wanted), "vi")


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A rendered page; remembers the language that was asked for."""
    language = language_of(request)
    text = _ENVIRONMENT.get_template(template).render(
        language=language, t=partial(phrase, language=language), **context
    )
    response = HTMLResponse(text, status, headers=dict(SECURITY_HEADERS))
    if "lang" in request.query_params:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=31_536_000, httponly=True, samesite="lax")
    return response


def signed_out(request: Request, heading: Literal["title", "operators"] = "title") -> HTMLResponse:
    """How to get in, for a citizen or an operator."""
    return page(request, "signed_out.html", status=401, heading=heading)


def assets() -> list[BaseRoute]:
    """The style sheet and the one script, and the way from the bare address to the citizen's page."""

    async def home(_: Request) -> RedirectResponse:
        return RedirectResponse("/citizen", 307)

    return [Route("/", home), Mount("/static", StaticFiles(packages=[("ehr.web", "static")]))]


def enter(token: str, *, cookie: str, path: str, life_s: int, secure: bool) -> RedirectResponse:
    """Put a token into a cookie that scripts and other sites cannot use, and go to the page without it in the URL."""
    response = RedirectResponse(path, 303, headers=dict(SECURITY_HEADERS))
    response.set_cookie(cookie, token, max_age=life_s, path=path, httponly=True, samesite="strict", secure=secure)
    return response
