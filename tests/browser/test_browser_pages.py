"""The citizen's page on a small phone, by keyboard and without scripts; the console stays live."""

from playwright.async_api import Browser, Page

from ehr.access.authenticate import citizen_link
from ehr.access.token import LINK
from ehr.web.ops import OPERATOR_SCOPE
from tests.api.conftest import City
from tests.api.test_api_pages import CCCD, person, root_of

PHONE = {"width": 320, "height": 640}
PAGE_BYTES_MAX = 60_000


async def opened(browser: Browser, city: City, link: str, path: str, *, scripts: bool) -> tuple[Page, list[str]]:
    """A page behind a link, and everything the browser complained about."""
    context = await browser.new_context(viewport=PHONE, java_script_enabled=scripts, locale="vi-VN")  # type: ignore[arg-type]
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{root_of(city)}{path}/enter?link={link}")
    return page, complaints


async def test_a_small_phone_without_scripts_shows_everything(city: City, chromium: Browser) -> None:
    link = citizen_link(city.authenticator.tokens, await person(city, CCCD, "Nguyễn Thị Hà"))
    page, complaints = await opened(chromium, city, link, "/citizen", scripts=False)
    assert page.url == f"{root_of(city)}/citizen"
    assert await page.locator("html").get_attribute("lang") == "vi"
    assert "13.50 mmol/L" in await page.locator("main").inner_text()
    box = await page.locator("body").bounding_box()
    assert box is not None
    assert box["width"] <= PHONE["width"]
    assert len((await page.content()).encode()) < PAGE_BYTES_MAX
    await page.locator("header a").click()
    assert await page.locator("html").get_attribute("lang") == "en"
    assert "My health record" in await page.title()
    assert complaints == []


async def test_long_words_and_large_letters_stay_on_the_phone(city: City, chromium: Browser) -> None:
    """Twice the letters, and a name without a place to break it: nothing to scroll sideways."""
    link = citizen_link(city.authenticator.tokens, await person(city, CCCD, "Công Tằng Tôn Nữ " + "Hương" * 60))
    page, _ = await opened(chromium, city, link, "/citizen", scripts=True)
    for size in ("16px", "32px"):
        await page.evaluate(f"document.documentElement.style.fontSize = '{size}'")
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    await page.get_by_text("kể cả trước 30 ngày").click()
    assert "Bạn" in await page.locator("main").inner_text()
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


async def test_the_keyboard_reaches_the_content_first(city: City, chromium: Browser) -> None:
    link = citizen_link(city.authenticator.tokens, await person(city, CCCD, "Nguyễn Thị Hà"))
    page, _ = await opened(chromium, city, link, "/citizen", scripts=True)
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"
    await page.keyboard.press("Enter")
    assert page.url.endswith("#content")


async def test_what_a_facility_sent_cannot_run(city: City, chromium: Browser) -> None:
    name = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    link = citizen_link(city.authenticator.tokens, await person(city, CCCD, name))
    page, _ = await opened(chromium, city, link, "/citizen", scripts=True)
    assert name in await page.locator("#who").inner_text()
    assert await page.title() != "owned"


async def test_the_console_refreshes_itself(city: City, chromium: Browser, facilities: list[int]) -> None:
    link = city.authenticator.tokens.issue("operator", OPERATOR_SCOPE, typ=LINK)
    page, complaints = await opened(chromium, city, link, "/ops", scripts=True)
    await page.get_by_text("Station 01Z01").wait_for()
    async with city.record.database.acquire() as connection:
        await connection.execute("UPDATE facility SET name = 'Renamed station' WHERE id = $1", facilities[0])
    await page.get_by_text("Renamed station").wait_for(timeout=10_000)
    assert complaints == []
    assert not await page.get_by_role("status").is_visible()
    await page.context.clear_cookies()
    await page.get_by_role("status").wait_for(timeout=10_000)
