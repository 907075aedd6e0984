"""Access as it must be settled before the service listens."""

import socket
from ipaddress import IPv6Address, ip_address

from app.access.key_file import KeysError, read_keys
from app.settings import Settings


def access_problem(settings: Settings, host: str) -> str | None:
    """Say why the service must not listen on `host` with these settings; None if it may."""
    if settings.access == "keys":
        if settings.keys_file is None:
            return (
                "CIFAR10_ACCESS is keys, but CIFAR10_KEYS_FILE is not set; name a file of keys, "
                "which `python -m app key NAME --file FILE` makes"
            )
        try:
            read_keys(settings.keys_file)
        except KeysError as error:
            return f"CIFAR10_KEYS_FILE: {error}"
    elif settings.keys_file:
        return (
            f"CIFAR10_KEYS_FILE is set, but CIFAR10_ACCESS is {settings.access or 'not'}; "
            "set CIFAR10_ACCESS=keys to let in clients with a key only, or unset CIFAR10_KEYS_FILE"
        )
    elif settings.access is None and not is_loopback(host):
        return (
            f"other machines may reach {host}; set CIFAR10_ACCESS=keys and CIFAR10_KEYS_FILE to let in clients with a "
            "key, or CIFAR10_ACCESS=open to let in everybody (docs/access.md)"
        )
    return None


def is_loopback(host: str) -> bool:
    """True if only this machine reaches the address, or every address of the name."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return all(_is_loopback(address.partition("%")[0]) for address in addresses)


def _is_loopback(text: str) -> bool:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
