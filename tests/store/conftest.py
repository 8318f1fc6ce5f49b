"""Many connections, for the races of the store's tests."""

import pytest

from ehr.access.policy import Caller
from ehr.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"pool_connections_max": 40})


@pytest.fixture
def city() -> Caller:
    return Caller.system("test")
