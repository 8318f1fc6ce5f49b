"""The gate is asked by the event loop and by the thread of ehr.aside: types are built once, whoever asks first."""

import subprocess
import sys

PROGRAM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from ehr.fhir.accept import accepts

sys.setswitchinterval(1e-6)
tree = {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "referenceRange": [{"low": {"value": 1}, "appliesTo": [{"coding": [{"code": "y"}]}]}],
        "component": [{"code": {"coding": [{"system": "urn:x", "code": "z"}]}, "valuePeriod": {"start": "2026"}}]}
with ThreadPoolExecutor(8) as threads:
    print(set(threads.map(lambda _: accepts(tree), range(64))))
"""


def test_types_may_be_met_first_by_several_threads_at_once() -> None:
    """In a process of its own, where none is known yet."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{True}\n", "")
