"""The insurer's gateway as a Starlette app: the calls of CV 1245, the answers of a patient appraiser.

Calls:  POST /api/token/take · POST /api/qd130/guiHoSoXmlQD4750 and …QD3176 · POST /api/qd130/checkInKcbQd4750 and
        …Qd3176 · GET /api/kcb/tra-cuu-trang-thai/{maGiaoDich} · GET /sim/balance (ours: the insurer's own sums)
Like the real one it says no in maKetQua under HTTP 200; 429 and 5xx are what stands before it.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from lxml import etree
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ehr import limits
from ehr.clock import ICT, instant
from ehr.errors import Malformed
from sync.gateway_sim.books import Books
from terminology.claim_tables import Version, check_row, table

_FIELDS_MAX: Final = 20
_BODY_MAX: Final = limits.claim_xml_bytes_max * 2
_WORDS: Final[Mapping[str, str]] = {
    "200": "Thành công",
    "205": "Sai tham số",
    "401": "Sai tài khoản hoặc mã truy cập",
    "404": "Không tìm thấy mã giao dịch",
    "501": "Phiên làm việc hết hạn",
}


def create_app(books: Books) -> Starlette:
    """The app over its books; the caller keeps the books to look into them."""
    gateway = _Gateway(books)
    return Starlette(
        routes=[
            Route("/api/token/take", gateway.take, methods=["POST"]),
            Route("/api/qd130/guiHoSoXmlQD4750", gateway.receive_4750, methods=["POST"]),
            Route("/api/qd130/guiHoSoXmlQD3176", gateway.receive_3176, methods=["POST"]),
            Route("/api/qd130/checkInKcbQd4750", gateway.check_in, methods=["POST"]),
            Route("/api/qd130/checkInKcbQd3176", gateway.check_in, methods=["POST"]),
            Route("/api/kcb/tra-cuu-trang-thai/{transaction}", gateway.standing, methods=["GET"]),
            Route("/sim/balance", gateway.balance, methods=["GET"]),
        ]
    )


class _Gateway:
    def __init__(self, books: Books) -> None:
        self.books = books

    async def take(self, request: Request) -> JSONResponse:
        form = await _form(request)
        found = self.books.token(form.get("username", ""), form.get("password", ""))
        if found is None:
            return _answer("401")
        access, issued = found
        key = {
            "access_token": access,
            "id_token": issued.id_token,
            "token_type": "bearer",
            "username": form["username"],
            "expires_in": instant(issued.expires),
        }
        return _answer("200", APIKey=key)

    async def receive_4750(self, request: Request) -> JSONResponse:
        return await self._receive(request, "4750")

    async def receive_3176(self, request: Request) -> JSONResponse:
        return await self._receive(request, "3176")

    async def _receive(self, request: Request, version: Version) -> JSONResponse:
        form = await _form(request)
        holder = self._before(request, form.get("username", ""))
        if isinstance(holder, JSONResponse):
            return holder
        facility_code = form.get("maCSKCB", "")
        if form.get("loaiHoSo") != "130" or form.get("maTinh") != facility_code[:2] or not facility_code:
            return _answer("205", "loaiHoSo, maTinh hoặc maCSKCB không đúng")
        try:
            body = base64.b64decode(form.get("fileHSBase64", ""), validate=True)
            file = self.books.receive(holder, facility_code, body, version)
        except (binascii.Error, Malformed, KeyError, ArithmeticError) as error:
            return _answer("205", f"Tệp không đọc được: {type(error).__name__}")
        if self.books.faults.strikes(self.books.faults.lost, "lost", facility_code, file.place):
            return JSONResponse({}, status_code=500)
        received = self.books.clock.now().astimezone(ICT)
        return _answer("200", maGiaoDich=file.transaction, thoiGianTiepNhan=f"{received:%Y%m%d%H%M%S}")

    async def check_in(self, request: Request) -> JSONResponse:
        """XML0: someone is being treated, the first cost arose."""
        form = await _form(request)
        holder = self._before(request, form.get("username", ""))
        if isinstance(holder, JSONResponse):
            return holder
        try:
            root = etree.fromstring(base64.b64decode(form.get("fileHSBase64", ""), validate=True), _parser())
        except (binascii.Error, etree.XMLSyntaxError):
            return _answer("205", "Tệp không đọc được")
        shape = table("XML0")
        records = root.findall(f"{shape.list_tag}/{shape.record_tag}")
        wrong = [b for record in records for b in check_row(shape, {str(f.tag): f.text or "" for f in record})]
        if not records or wrong:
            return _answer("205", wrong[0].text if wrong else "Không có bản ghi")
        self.books.checked_in += len(records)
        number = f"{form.get('maCSKCB', '')}C{self.books.checked_in:08d}"
        received = self.books.clock.now().astimezone(ICT)
        return _answer("200", maGiaoDich=number, thoiGianTiepNhan=f"{received:%Y%m%d%H%M%S}")

    async def standing(self, request: Request) -> JSONResponse:
        holder = self._before(request, request.query_params.get("username", ""))
        if isinstance(holder, JSONResponse):
            return holder
        answer = self.books.standing(request.path_params["transaction"])
        return _answer("404") if answer is None else JSONResponse(answer)

    async def balance(self, _request: Request) -> JSONResponse:
        return JSONResponse(dict(self.books.balance()))

    def _before(self, request: Request, account: str) -> str | JSONResponse:
        """What every call passes first: the facility of the token, or the answer that ends the call."""
        if self.books.unavailable():
            return JSONResponse({}, status_code=503)
        if self.books.throttled(account):
            return JSONResponse({}, status_code=429, headers={"Retry-After": "1"})
        headers = request.headers
        code, holder = self.books.holder(
            headers.get("accessToken", ""), headers.get("tokenId", ""), headers.get("passwordHash", "")
        )
        return _answer(code) if holder is None else holder


async def _form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_MAX:
            return {}
    return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_FIELDS_MAX))


def _answer(code: str, words: str | None = None, **more: Any) -> JSONResponse:
    return JSONResponse({"maKetQua": code, "thongDiep": words or _WORDS[code], **more})


def _parser() -> etree.XMLParser:
    return etree.XMLParser(resolve_entities=False, no_network=True)
