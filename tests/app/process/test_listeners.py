"""Sockets on every address of a name."""

import errno
import socket
import sys
from contextlib import closing, contextmanager

import pytest

from app.process.listeners import bind, close, queued, refuse_new

V4, V6 = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")


def resolves_to(*addresses):
    """A resolver that knows these addresses for every name, as a line in /etc/hosts does."""

    def getaddrinfo(host, port, type):
        rest = {socket.AF_INET: (), socket.AF_INET6: (0, 0)}
        return [(family, type, 6, "", (address, port, *rest[family])) for family, address in addresses]

    return getaddrinfo


@contextmanager
def bound(host="localhost", port=0, shared=False):
    listeners = bind(host, port, shared)
    try:
        yield listeners
    finally:
        close(listeners)


def has_ipv6() -> bool:
    try:
        with closing(socket.socket(socket.AF_INET6)) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("shared", [False, True])
def test_a_name_with_several_addresses_is_bound_on_all_with_one_port(monkeypatch, shared):
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to(V4, V6, V4))
    with bound(shared=shared) as listeners:
        assert [listener.getsockname()[0] for listener in listeners] == ["127.0.0.1", "::1"]
        (port,) = {listener.getsockname()[1] for listener in listeners}
        for listener in listeners:
            listener.listen()
        for family, address in (V4, V6):
            with socket.socket(family) as client:
                client.connect((address, port))


def test_an_address_that_this_machine_lacks_is_left_out(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to((socket.AF_INET, "192.0.2.1"), V4))
    with bound() as listeners:
        assert [listener.getsockname()[0] for listener in listeners] == ["127.0.0.1"]
    monkeypatch.setattr(socket, "getaddrinfo", resolves_to((socket.AF_INET, "192.0.2.1")))
    with pytest.raises(OSError, match="Cannot assign") as caught:
        bind("localhost", 0, False)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_port_in_use_is_an_error_unless_it_is_shared():
    with bound("127.0.0.1", shared=True) as first:
        port = first[0].getsockname()[1]
        first[0].listen()  # only then does the kernel refuse others, because of SO_REUSEADDR
        with bound("127.0.0.1", port, shared=True):
            pass
        with pytest.raises(OSError, match="Address already in use"):
            bind("127.0.0.1", port, False)


@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
def test_a_socket_that_refuses_new_connections_keeps_those_in_its_queue():
    with bound("127.0.0.1") as listeners, closing(socket.socket()) as early, closing(socket.socket()) as late:
        (listener,) = listeners
        listener.listen()
        early.connect(listener.getsockname())
        assert queued(listeners) == 1
        refuse_new(listeners)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        assert queued(listeners) == 1
        early.sendall(b"sent before it was accepted")
        accepted, _ = listener.accept()
        with closing(accepted):
            assert accepted.recv(100) == b"sent before it was accepted" and queued(listeners) == 0
