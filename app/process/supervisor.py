"""Starts the worker processes of the service and restarts those that end.

A process runs Python code on one core at a time, so the service has one process per core. The first one answers
requests from the start and, once its model is ready, starts the others. Each opens its own listening socket on the
address (SO_REUSEPORT) as soon as its model is ready, and the kernel distributes the connections. They share only the
store and a directory for metrics and drift counts.
"""

import asyncio
import logging
import os
import sys

logger = logging.getLogger("app")
RETRY_SECONDS = 1.0, 60.0  # delay before a restart: the first, doubled each time, and the maximum


class Workers:
    """Keeps `count` worker processes running until it is stopped."""

    def __init__(self, count: int, host: str, port: int) -> None:
        self._command = [sys.executable, "-m", "app", "worker", "--host", host, "--port", str(port)]
        self._count = count
        self._processes: set[asyncio.subprocess.Process] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._environment: dict[str, str] = {}

    def start(self, version: int) -> None:
        """Start all processes with this version, even if another is published later; needs a running event loop."""
        self._environment = os.environ | {"CIFAR10_MODEL_VERSION": str(version)}
        self._tasks = [asyncio.create_task(self._keep_running()) for _ in range(self._count)]

    def stop(self, signal_: int) -> None:
        """Send the signal to every process, and restart none."""
        self._stopping = True
        for process in self._processes:
            process.send_signal(signal_)

    async def wait(self) -> None:
        """Wait until all processes have ended; call `stop` first."""
        self._stopping = True
        await asyncio.gather(*(process.wait() for process in self._processes))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_running(self) -> None:
        (min_delay, max_delay), loop = RETRY_SECONDS, asyncio.get_running_loop()
        delay = min_delay
        while True:
            began = loop.time()
            # The new session makes `stop` the only way that Ctrl-C reaches the worker. The pipe on its stdin closes
            # when this process ends, however it ends.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, start_new_session=True, env=self._environment
            )
            self._processes.add(process)
            if self._stopping:  # `stop` was called while the process was being started
                process.terminate()
            code = await process.wait()
            self._processes.discard(process)
            if self._stopping:
                return
            if loop.time() - began > max_delay:
                delay = min_delay
            logger.error("a worker process ended", extra={"fields": {"exit_code": code, "again_in_seconds": delay}})
            await asyncio.sleep(delay)
            delay = min(2 * delay, max_delay)
