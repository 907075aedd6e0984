"""Listening sockets on every address of a name."""

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any

UNAVAILABLE = errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT  # such as ::1 in a container without IPv6
PORT_TRIES = 10  # a free port of one address may be taken on the next
# Connections inherit both. By itself the kernel keeps up to 4 MB that a client has not read for each of them, and for a
# quarter of an hour.
SO_ATTACH_FILTER = 26
UNACKED_AT = 24  # offset of tcpi_unacked, for a listening socket the length of its queue (linux/tcp.h, tcp_diag.c)
# Classic BPF on the TCP header: load the flags, and drop the packet if SYN is among them.
DROP_SYN = (0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)
SEND_BUFFER_BYTES, UNREAD_MILLISECONDS = 262_144, 30_000


def bind(host: str, port: int, shared: bool) -> list[socket.socket]:
    """Bind a socket to each address of the host, without listening on it.

    Args:
        port: 0 for any port that is free on every address.
        shared: whether other processes may bind to the same addresses.

    Raises:
        OSError: the name has no address, or one is in use or may not be used.
        UnicodeError: the name is not a host name.
    """
    for _ in range(PORT_TRIES):
        try:
            return _bind_all(host, port, shared)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
            last = error
    raise last


def _bind_all(host: str, port: int, shared: bool) -> list[socket.socket]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in infos))
    sockets: list[socket.socket] = []
    unavailable: OSError | None = None
    with ExitStack() as opened:
        for family, address in addresses:
            if sockets:  # where the port is 0, the others take the first one's
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sockets.append(opened.enter_context(_bound(family, address, shared, alone=len(addresses) == 1)))
            except OSError as error:
                if error.errno not in UNAVAILABLE:
                    raise
                unavailable = error
        if unavailable and not sockets:
            raise unavailable
        opened.pop_all()
    return sockets


def _bound(family: int, address: tuple[Any, ...], shared: bool, alone: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sys.platform == "linux":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        if family == socket.AF_INET6 and not alone:  # alone, `::` also accepts IPv4
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def refuse_new(listeners: Iterable[socket.socket]) -> None:
    """Let the sockets take no new connection; those in their queues can still be accepted, and begun ones completed.

    Closing a listening socket resets the connections in its queue, whose requests may have been sent already. So a
    filter (packet(7), SO_ATTACH_FILTER) drops packets with SYN. A client sends them again, and is refused once the
    socket is closed. Linux only; elsewhere, and where filters are not allowed, nothing happens.
    """
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in DROP_SYN)
    instructions = ctypes.create_string_buffer(program, len(program))
    option = struct.pack("HP", len(DROP_SYN), ctypes.addressof(instructions))
    for listener in listeners:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)


def queued(listeners: Iterable[socket.socket]) -> int:
    """Count the connections that wait to be accepted (Linux; 0 elsewhere)."""
    if sys.platform != "linux":
        return 0
    count = 0
    for listener in listeners:
        with suppress(OSError):
            info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNACKED_AT + 4)
            count += int.from_bytes(info[UNACKED_AT:], sys.byteorder)
    return count


def close(listeners: Iterable[socket.socket]) -> None:
    """Close sockets."""
    for listener in listeners:
        listener.close()
