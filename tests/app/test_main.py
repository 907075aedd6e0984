"""The application put together: its version, its pages and their files."""

import re
import tomllib

import pytest

from app import __version__
from tests.app.service import ROOT


def test_the_version_is_the_projects(client):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert __version__ == project["version"] == client.get("/openapi.json").json()["info"]["version"]


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_need_no_other_host_and_no_inline_code(client, page):
    html = client.get(page).text
    assert "://" not in re.sub(r"curl -F.*", "", html)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    references = re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg|png))"', html)
    assert references and all(reference.startswith(client.app.state.page.address) for reference in references)
    for reference in references:
        assert client.get("/" + reference).status_code == 200
