"""The page's documents and files. Addresses of files change with their content, so browsers may keep them for ever."""

import asyncio
import gzip
import hashlib
import html
import re
from pathlib import Path

from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.staticfiles import NotModifiedResponse
from starlette.types import Scope

IMMUTABLE, REVALIDATED = "public, max-age=31536000, immutable", "no-cache"
COMPRESSED = (".js", ".css", ".svg")
VARY = {"Vary": "Accept-Encoding"}
_VERSION = re.compile(r"[0-9a-f]{12}")
_IMPORT = re.compile(r'^import .* from "(\.\.?/[a-z0-9/]+\.js)";$', re.MULTILINE)
_GZIP = re.compile(r"(?i)(?:^|[,\s])gzip\s*(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))(?:[;,]|$)")


class Page:
    """The page: its version, a hash of all its files, and its HTML documents, which refer to that version."""

    def __init__(self, folder: Path) -> None:
        digest = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        self.folder, self.version = folder, digest.hexdigest()[:12]
        self.address = f"page/{self.version}/"  # relative to /
        self._documents = {  # 10 kB
            path.name: path.read_text(encoding="utf-8")
            .replace("{preloads}", _preloads(folder / "js" / "page.js"))
            .replace('"page/', f'"{self.address}')
            for path in folder.glob("*.html")
        }

    def answer(self, name: str, request: Headers, service: str) -> Response:
        """Answer with a document, or 304 if the browser has it; `service` is the address of / for the client."""
        headers = {"Cache-Control": REVALIDATED, "ETag": f'"{self.version}{"-gzip" * accepts_gzip(request)}"'}
        if headers["ETag"] in request.get("if-none-match", ""):
            return Response(status_code=304, headers=headers | VARY)
        document = self._documents[name].replace("{service}", html.escape(service))
        return compress_body(Response(document, headers=headers, media_type="text/html"), request)


class PageFiles(StaticFiles):
    """Serves the page's files at /page/VERSION/, and at /page/ for old links. Text is compressed once, when asked for.

    Any version gets the files of this one: during an upgrade a document may come from another process than its files.
    """

    def __init__(self, page: Page) -> None:
        super().__init__(directory=page.folder)
        self._version = page.version
        self._compressed: dict[str, bytes] = {}  # 0.6 MB for all files

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file.

        Raises:
            HTTPException: the file does not exist, or the method is not GET.
        """
        if scope["path"].endswith("/"):
            raise HTTPException(404)
        version, _, rest = path.partition("/")
        path = rest if _VERSION.fullmatch(version) else path
        request = Headers(scope=scope)
        response = await super().get_response(path, scope)
        if path.endswith(COMPRESSED):
            response.headers.update(VARY)
            if isinstance(response, FileResponse) and accepts_gzip(request) and "range" not in request:
                response = await self._compress(path, response, request)
        response.headers["Cache-Control"] = IMMUTABLE if version == self._version else REVALIDATED
        return response

    async def _compress(self, path: str, file: FileResponse, request: Headers) -> Response:
        headers = {name: file.headers[name] for name in ("content-type", "last-modified", "vary")}
        headers |= {"etag": file.headers["etag"].removesuffix('"') + '-gzip"', "content-encoding": "gzip"}
        if headers["etag"] in request.get("if-none-match", ""):
            return NotModifiedResponse(Headers(headers))
        if path not in self._compressed:
            self._compressed[path] = await asyncio.to_thread(_read_compressed, Path(file.path))
        return Response(self._compressed[path], headers=headers)


def _preloads(script: Path) -> str:
    """Return links to the modules that a script imports, directly or not; else each level would cost a round trip."""
    found = [script.resolve()]
    for path in found:  # grows
        imported = [(path.parent / name).resolve() for name in _IMPORT.findall(path.read_text(encoding="utf-8"))]
        found += [each for each in imported if each not in found]
    names = [path.relative_to(found[0].parent).as_posix() for path in found[1:]]
    return "".join(f'<link rel="modulepreload" href="page/js/{name}">' for name in names)


def compress_body(response: Response, request: Headers) -> Response:
    """Compress a text of at most some 100 kB, which takes 1 ms, if the client accepts gzip."""
    response.headers.update(VARY)
    if accepts_gzip(request):
        response.body = gzip.compress(response.body, 6, mtime=0)
        response.headers.update({"Content-Encoding": "gzip", "Content-Length": str(len(response.body))})
    return response


def accepts_gzip(request: Headers) -> bool:
    """True if the client lists gzip and does not give it the weight 0."""
    return bool(_GZIP.search(request.get("accept-encoding", "")[:1_000]))


def _read_compressed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes(), 9, mtime=0)
