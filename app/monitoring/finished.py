"""Counts and logs finished requests, those of some milliseconds together: one costs almost as much as many."""

import asyncio

from app.monitoring.logs import RequestRecord, log_requests
from app.monitoring.metrics import Metrics

RECORD_SECONDS = 0.02


class FinishedRequests:
    """Requests that are not yet counted and logged."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._records: list[RequestRecord] = []
        metrics.before_report = self.record

    def add(self, record: RequestRecord) -> None:
        """Count and log a request within RECORD_SECONDS; needs a running event loop."""
        if not self._records:
            asyncio.get_running_loop().call_later(RECORD_SECONDS, self.record)
        self._records.append(record)

    def record(self) -> None:
        """Count and log the requests that were added since the last call."""
        records, self._records = self._records, []
        self._metrics.observe_requests(records)
        for record in records:
            if record.span:
                record.span.end(record)
        if dropped := log_requests(records):
            self._metrics.count_dropped_lines(dropped)
