"""Count and time what this process does, and measure the backlog the database holds.

In:      one observation a request; one reading of the ledger, outbox, feed and jobs at each scrape
Out:     the Prometheus text format of /metrics
Keeps:   labels are route patterns, methods, statuses and states: a closed set, never an id or a value
Source:  Prometheus exposition format 0.0.4
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_COUNTED: Final = ("route", "method", "status")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_LEDGER: Final = """
SELECT state, count(*) AS messages, coalesce(extract(epoch FROM now() - min(received)), 0)::float8 AS age_s
FROM intake_message WHERE state <> 'applied' GROUP BY state
"""
_OUTBOX: Final = """
SELECT topic, count(*) AS rows, coalesce(extract(epoch FROM now() - min(created)), 0)::float8 AS age_s
FROM outbox GROUP BY topic
"""
_FEED: Final = """
SELECT reader, coalesce(extract(epoch FROM now() - (
    SELECT c.updated FROM change c WHERE (c.xid, c.seq) > (f.xid, f.seq) ORDER BY c.xid, c.seq LIMIT 1
)), 0)::float8 AS age_s FROM feed_cursor f
"""
_JOBS: Final = """
SELECT job.kind, chunk.state, count(*) AS chunks FROM job_chunk chunk JOIN job ON job.id = chunk.job_id
WHERE chunk.state IN ('queued', 'running') GROUP BY job.kind, chunk.state
"""


class Metrics:
    """The metrics of one process, in a registry of its own so that two apps in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = _Requests()
        self.registry.register(self._requests)
        self._ledger = self._gauge("ehr_ledger_messages", "Intake messages not applied.", "state")
        self._ledger_age = self._gauge("ehr_ledger_oldest_seconds", "Age of the oldest of them.", "state")
        self._outbox = self._gauge("ehr_outbox_rows", "Outbox rows not delivered.", "topic")
        self._outbox_age = self._gauge("ehr_outbox_oldest_seconds", "Age of the oldest of them.", "topic")
        self._feed = self._gauge("ehr_feed_lag_seconds", "Age of the oldest change a reader has not read.", "reader")
        self._jobs = self._gauge("ehr_job_chunks", "Job chunks waiting or running.", "kind", "state")

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """One answered request."""
        self._requests.observe(route, method, status, seconds)

    async def measure(self, connection: Any) -> None:
        """Read the backlog: what is waiting in the ledger, the outbox, behind each reader and in the jobs."""
        for gauge in (self._ledger, self._ledger_age, self._outbox, self._outbox_age, self._feed, self._jobs):
            gauge.clear()
        for row in await connection.fetch(_LEDGER):
            self._ledger.labels(row["state"]).set(row["messages"])
            self._ledger_age.labels(row["state"]).set(row["age_s"])
        for row in await connection.fetch(_OUTBOX):
            self._outbox.labels(row["topic"]).set(row["rows"])
            self._outbox_age.labels(row["topic"]).set(row["age_s"])
        for row in await connection.fetch(_FEED):
            self._feed.labels(row["reader"]).set(row["age_s"])
        for row in await connection.fetch(_JOBS):
            self._jobs.labels(row["kind"], row["state"]).set(row["chunks"])

    def text(self) -> bytes:
        """The exposition of everything observed and measured."""
        return generate_latest(self.registry)


class _Requests(Collector):
    """Counts and times in plain numbers, told at a scrape: on the hot path the library's own take five times as long.

    Of one thread: the event loop's.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], list[float]] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        counted = (route, method, status)
        self._counts[counted] = self._counts.get(counted, 0) + 1
        times = self._times.get((route, method))
        if times is None:
            times = self._times[route, method] = [0.0] * (len(_BUCKETS) + 2)
        times[bisect_left(_BUCKETS, seconds)] += 1
        times[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        """Each series: requests in each bucket, those beyond the last, and the sum of their seconds."""
        requests = CounterMetricFamily("ehr_http_requests", "HTTP requests answered.", labels=_COUNTED)
        for (route, method, status), count in self._counts.items():
            requests.add_metric((route, method, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily("ehr_http_request_seconds", "Time to answer.", labels=_COUNTED[:2])
        for labels, times in self._times.items():
            up_to = zip((*map(str, _BUCKETS), "+Inf"), accumulate(times[:-1]), strict=True)
            seconds.add_metric(labels, list(up_to), times[-1])
        yield seconds
