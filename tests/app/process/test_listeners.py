"""Sockets on every address of a name."""

import errno
import socket
from contextlib import closing, contextmanager

import pytest

from app.process.listeners import bind, close

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
