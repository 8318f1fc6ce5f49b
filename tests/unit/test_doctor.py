"""`ehr doctor` on what is left of a process that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import orjson

from ehr.doctor import _ports
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
