"""uvicorn, with a shutdown that loses nothing: readiness falls, requests under way finish, the exit code is 0."""

import asyncio
import signal
from types import FrameType

import uvicorn

from app.logs import configure_logging
from app.main import create_app
from app.settings import Settings


class DrainingServer(uvicorn.Server):
    """On SIGTERM says not ready for `drain_seconds` while still accepting, then stops; on SIGINT stops at once.

    A load balancer goes on sending until it has seen the readiness probe fail; whoever closes the port before that
    drops requests.
    """

    def __init__(self, config: uvicorn.Config, app_state: object, drain_seconds: float) -> None:
        super().__init__(config)
        self._app_state, self._drain_seconds = app_state, drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Remember the loop, which signals must talk to."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown. uvicorn would afterwards raise the signal again and so end with its number."""
        draining = self._app_state.pipeline.draining  # type: ignore[attr-defined]
        self._app_state.pipeline.draining = True  # type: ignore[attr-defined]
        if sig == signal.SIGTERM and not draining and self._loop:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._drain_seconds, self._stop)
        else:
            self.force_exit = self.should_exit
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve until told to stop. Returns the exit code."""
    configure_logging(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        root_path=settings.root_path,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=round(settings.timeout_seconds) + 1,
    )
    DrainingServer(config, app.state, settings.drain_seconds).run()
    return 0
