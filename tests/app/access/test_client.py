"""Who a request's client is, for sharing a busy service."""

import pytest

from app.access.client import client_of


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("testclient", ""),
        ("x" * 100_000, ""),
    ],
    ids=lambda value: value[:20],
)
def test_an_address_is_a_client_and_ipv6_by_its_64_bits(host, client):
    assert client_of({"client": (host, 1)}) == client


def test_a_key_is_a_client_wherever_it_comes_from():
    assert (
        client_of({"client": ("203.0.113.7", 1), "key": "ci"}) == client_of({"client": None, "key": "ci"}) == "key ci"
    )
    assert client_of({"client": None}) == client_of({}) == ""
