"""A real browser for pages; tests skip where none is installed."""

import functools
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.api.conftest import app_options, city, facilities, settings

__all__ = ["app_options", "city", "facilities", "settings"]

_QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@functools.cache
def _driver_runs() -> bool:
    done = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    place = shutil.which("chromium") or shutil.which("google-chrome")
    if place is None:
        pytest.skip("no chromium: apt-get install chromium")
    if not _driver_runs():
        pytest.skip("playwright's driver does not run: apt-get install libatomic1")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=place, args=["--no-sandbox", *_QUIET])
        yield started
        await started.close()
