"""The running server of tests/api."""

from tests.api.conftest import app_options, city, client, settings

__all__ = ["app_options", "city", "client", "settings"]
