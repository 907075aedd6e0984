"""Everything of uvicorn, httptools and the event loop that our connection and server rely on without a promise.

If this fails after an upgrade, read app/process/connection.py beside the new uvicorn's httptools_impl.py first.
"""

import ast
import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import uvloop
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn import Config, Server
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.process import connection, shutdown
from app.process.open_connections import OpenConnections

ROOT = Path(__file__).parents[2]
# Attributes and methods that our subclass reads, calls or replaces.
PROTOCOL = {
    "connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing",
    "shutdown", "on_message_begin", "on_headers_complete", "on_body", "on_message_complete", "on_response_complete",
    "_start_asgi_task", "cycle", "flow", "headers", "loop", "parser", "pipeline", "server_state", "transport", "url",
}  # fmt: skip
CYCLE = {"keep_alive", "more_body", "response_complete", "response_started", "scope"}
STATE = {"connections", "default_headers", "total_requests"}
SERVER = {"handle_exit", "server_state", "servers", "should_exit", "shutdown", "startup"}
FLOW = {"pause_reading", "resume_reading", "write_paused"}


@pytest.mark.parametrize("package", ["uvicorn", "httptools"])
def test_the_version_that_is_tested_is_pinned_and_installed(package):
    (pinned,) = re.findall(rf'"{package}==([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert f"{package}=={pinned} " in (ROOT / "requirements/serve.txt").read_text() and version(package) == pinned


def inherited(module, name: str, own: set[str]) -> set[str]:
    """The attributes of self that a class uses or replaces and does not define alone."""
    (body,) = [node for node in ast.parse(inspect.getsource(module)).body if getattr(node, "name", "") == name]
    used = {
        node.attr for node in ast.walk(body) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    methods = {node.name for node in body.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return (used | methods) - own


def attributes(instance: object) -> set[str]:
    return set(dir(instance))


def test_uvicorn_has_every_name_that_our_connection_and_server_use():
    async def application(scope, receive, send):
        pass

    state = ServerState()
    config = Config(application, http=connection.Connection, ws="none", lifespan="off", log_config=None)
    protocol = HttpToolsProtocol(config, state, {}, uvloop.new_event_loop())
    protocol.loop.close()
    protocol.on_message_begin()  # sets url
    assert attributes(protocol) >= PROTOCOL and attributes(state) >= STATE
    assert attributes(Server(config)) >= SERVER - {"servers"} and "self.servers" in inspect.getsource(Server.startup)
    parameters = inspect.signature(HttpToolsProtocol.__init__).parameters
    assert list(parameters) == ["self", "config", "server_state", "app_state", "_loop"]
    cycle = inspect.getsource(RequestResponseCycle)
    assert [name for name in CYCLE if f"self.{name} = " not in cycle] == []
    flow = inspect.getsource(FlowControl)
    assert [name for name in FLOW if f"self.{name} = " not in flow and f"def {name}(" not in flow] == []
    assert httptools_impl.STATUS_LINE[501] == b"HTTP/1.1 501 Not Implemented\r\n"


def test_the_names_above_are_those_in_use():
    added = set(vars(connection.Connection)) - {name for name in PROTOCOL if hasattr(HttpToolsProtocol, name)}
    assert inherited(connection, "Connection", added) == PROTOCOL
    assert attributes(OpenConnections(1, 1.0)) >= STATE
    own = set(vars(shutdown.DrainingServer)) - SERVER | {"_loop", "_pipeline", "_drain_seconds", "_workers", "_renewal"}
    assert inherited(shutdown, "DrainingServer", own) == SERVER


def test_the_parser_calls_back_for_chunks_and_says_where_an_upgrade_begins():
    calls = []

    class Callbacks:
        def __getattr__(self, name: str):
            if not name.startswith("on_"):
                raise AttributeError(name)
            return lambda *_: calls.append(name)

    parser = HttpRequestParser(Callbacks())
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n")
    assert calls[-4:] == ["on_chunk_header", "on_body", "on_chunk_complete", "on_chunk_header"]
    parser.feed_data(b"a: b\r\n\r\n")
    assert calls[-3:] == ["on_header", "on_chunk_complete", "on_message_complete"]
    head = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    with pytest.raises(HttpParserUpgrade) as upgrade:
        parser.feed_data(head + b"more")
    assert upgrade.value.args[0] == len(head) and parser.should_upgrade()
    assert (parser.get_method(), parser.get_http_version()) == (b"GET", "1.1")
