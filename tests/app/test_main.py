"""The application put together: pages and their files."""

import re

import pytest


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_need_no_other_host_and_no_inline_code(client, page):
    html = client.get(page).text
    assert "://" not in re.sub(r"curl -F.*", "", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    for reference in re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg))"', html):
        assert client.get("/" + reference).status_code == 200
