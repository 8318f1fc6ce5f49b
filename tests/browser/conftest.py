"""A real browser for pages; tests skip where none is installed."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.api.conftest import app_options, city, facilities, settings

__all__ = ["app_options", "city", "facilities", "settings"]

_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    place = shutil.which("chromium") or shutil.which("google-chrome")
    if place is None:
        pytest.skip("no chromium: apt-get install chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=place, args=["--no-sandbox", *_QUIET])
        yield started
        await started.close()
