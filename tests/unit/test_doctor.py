"""`ehr doctor` on what is left of a process that is gone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from ehr.doctor import GIB, _disk, _ports
from ehr.serve import RUNNING
from ehr.settings import Settings


def told(data_dir: Path, pid: int) -> Settings:
    content = {"base_url": "http://127.0.0.1:8000/fhir", "mllp_port": 2575, "pid": pid}
    (data_dir / RUNNING).write_bytes(orjson.dumps(content))
    return Settings(data_dir=data_dir)


def test_a_server_that_was_killed_is_not_said_to_serve(data_dir: Path) -> None:
    assert _ports(told(data_dir, os.getpid())).state == "ok"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    found = _ports(told(data_dir, gone.pid))
    assert (found.state, "start ehr serve" in found.fix) == ("warning", True)


@pytest.mark.parametrize(("free", "state"), [(3 * GIB, "ok"), (GIB, "warning"), (GIB // 10, "failed")])
def test_a_disk_that_fills_up_is_told_before_it_is_full(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert _disk(Settings(data_dir=data_dir)).state == state
