"""The clock of the workers asks for everything they can do but WORK, which they ask of one another."""

from ehr.jobs.celery_app import WORK, add_clock, make_worker
from tests.jobs.root_for_tests import open_hands


def test_every_task_has_its_tick() -> None:
    celery = make_worker("memory://", open_hands)
    add_clock(celery, ["summary"])
    sent = {tick["task"] for tick in celery.conf.beat_schedule.values()}
    assert sent == {name for name in celery.tasks if name.startswith("ehr.")} - {WORK}
