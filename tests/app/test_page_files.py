"""The page's files: addresses that change with the content, caching and compression."""

import gzip
import re
import shutil

import pytest
from starlette.datastructures import Headers

from app.main import PAGE
from app.page_files import Page, accepts_gzip

BUNDLE = "swagger/swagger-ui-bundle.js"
PLAIN = {"Accept-Encoding": "identity"}


def test_the_version_changes_with_any_file(tmp_path):
    folder = shutil.copytree(PAGE, tmp_path / "page")
    before = Page(folder).version
    assert before == Page(PAGE).version
    (folder / "js" / "page.js").write_text("other")
    assert Page(folder).version != before


def test_a_document_is_read_once(tmp_path):
    page = Page(shutil.copytree(PAGE, tmp_path / "page"))
    shutil.rmtree(tmp_path / "page")
    html = page.answer("index.html", Headers(), "http://here/").body.decode()
    assert f'"{page.address}js/' in html and '"page/js' not in html


def test_the_page_has_the_command_line_for_browsers_without_javascript(client):
    html = client.get("/", headers={"Host": "here.example:8000"}).text
    assert '<pre class="code">curl -F file=@photo.jpg http://here.example:8000/predict</pre>' in html
    assert "&lt;b&gt;" in client.app.state.page.answer("index.html", Headers({}), "http://<b>/").body.decode()


def test_the_modules_that_every_visit_needs_are_loaded_in_the_first_round_trip(client):
    html = client.get("/").text
    preloaded = re.findall(r'<link rel="modulepreload" href="page/[0-9a-f]{12}/js/(.*?)">', html)
    folder = PAGE / "js"
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.js")} - {"page.js", "docs.js"}
    needed = {name for name in modules if not name.startswith("batch/")}
    assert set(preloaded) == needed and len(preloaded) == len(needed) < len(modules)


def test_the_page_takes_less_than_150_kib():
    files = [path for path in PAGE.rglob("*") if path.is_file() and "swagger" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 150 * 1024


def test_files_at_the_version_are_kept_for_ever_and_others_are_asked_for_again(client):
    version = client.app.state.page.version
    for path, policy in (
        (f"/page/{version}/js/page.js", "public, max-age=31536000, immutable"),
        ("/page/js/page.js", "no-cache"),
        ("/page/0123456789ab/js/page.js", "no-cache"),
        ("/", "no-cache"),
        ("/docs", "no-cache"),
    ):
        assert client.get(path).headers["cache-control"] == policy
        for headers in ({}, PLAIN):
            etag = client.get(path, headers=headers).headers["etag"]
            again = client.get(path, headers=headers | {"If-None-Match": etag})
            assert (again.status_code, again.content) == (304, b"") and again.headers["cache-control"] == policy
    for path in ("/page/nothing.js", f"/page/{version}/nothing.js", f"/page/{version}/{version}/js/page.js"):
        assert client.get(path).status_code == 404


def test_a_script_is_sent_compressed_to_those_that_accept_it(client):
    with client.stream("GET", f"/page/{BUNDLE}", headers={"Accept-Encoding": "gzip"}) as response:
        sent = b"".join(response.iter_raw())
    whole = client.get(f"/page/{BUNDLE}", headers=PLAIN)
    assert response.headers["content-encoding"] == "gzip" and "content-encoding" not in whole.headers
    assert gzip.decompress(sent) == whole.content == (PAGE / BUNDLE).read_bytes()
    assert int(response.headers["content-length"]) == len(sent) < len(whole.content) / 3
    assert response.headers["vary"] == whole.headers["vary"] == "Accept-Encoding"
    assert response.headers["etag"] != whole.headers["etag"]
    assert response.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/model", "/model/card"])
def test_documents_are_sent_compressed_to_those_that_accept_it(client, path):
    with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as response:
        sent = b"".join(response.iter_raw())
    whole = client.get(path, headers=PLAIN)
    assert response.headers["content-encoding"] == "gzip" and "content-encoding" not in whole.headers
    assert gzip.decompress(sent) == whole.content
    assert int(response.headers["content-length"]) == len(sent) < len(whole.content)
    assert response.headers["vary"] == whole.headers["vary"] == "Accept-Encoding"
    assert whole.headers.get("etag") is None or whole.headers["etag"] != response.headers["etag"]


def test_ranges_and_images_are_not_compressed(client):
    part = client.get(f"/page/{BUNDLE}", headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, (PAGE / BUNDLE).read_bytes()[:10])
    assert "content-encoding" not in client.get("/page/samples/cat.png").headers


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP;q=0.8", True),
        ("deflate", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000, br", False),
        ("x-gzip-like", False),
        ("", False),
        ("a," * 200_000 + "gzip", False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_only_clients_that_list_gzip_get_it(header, expected):
    assert accepts_gzip(Headers({"accept-encoding": header})) is expected


def test_the_card_uses_the_same_files(client):
    addresses = re.findall(r'href="([^"]+\.(?:css|svg))"', client.get("/model/card").text)
    assert len(addresses) == 3 and all(client.app.state.page.address in address for address in addresses)
    assert all(client.get(f"/model/{address}").status_code == 200 for address in addresses)
