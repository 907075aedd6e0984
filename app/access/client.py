"""The client of a request, for sharing a busy service among clients."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from starlette.types import Scope

IPV6_HOST_BITS = 64  # a subscriber has at least that many


def client_of(scope: Scope) -> str:
    """Return the name of the request's key or, without one, its address as seen through trusted proxies.

    All addresses of an IPv6 /64 are one client. Text that is not an address is the client "".
    """
    if key := scope.get("key"):
        return f"key {key}"
    client = scope.get("client")
    return _network(client[0]) if client else ""


@lru_cache(1_024)
def _network(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> IPV6_HOST_BITS << IPV6_HOST_BITS))
    return host
