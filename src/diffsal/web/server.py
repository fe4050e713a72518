"""Serves the page on the loopback address: fixed files, for requests that name this computer only."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

from diffsal.errors import InputError

HOST = "127.0.0.1"
WEIGHTS = "compact.onnx"  # the graphs that predict runs by default
SPEAKER_GRAPHS = ("yunet.onnx", "lr_asd_faces.onnx", "lr_asd_sound.onnx", "lr_asd_decision.onnx")  # who speaks
HEADERS = {  # the first three let WebAssembly use threads, the fourth keeps the page from asking other hosts
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self' blob: data:; script-src 'self' blob: 'wasm-unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
    ".json": "application/json", ".gz": "application/octet-stream", ".onnx": "application/octet-stream",
}


def page_folder() -> Path:
    """The folder of the built page."""
    return Path(str(files("diffsal") / "web" / "page"))


def weights_files() -> dict[str, Path]:
    """The graphs that the page runs, by name: where the package has them."""
    folder = Path(str(files("diffsal") / "weights" / "pretrained"))
    return {name: folder / name for name in (WEIGHTS, *SPEAKER_GRAPHS)}


@lru_cache(maxsize=1)
def weights_json() -> bytes:
    """What the page needs to know of the weights, as JSON: each file, the network's configuration and its finish."""
    from diffsal.runtime.graphs import read_graphs

    told = [
        {"file": name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in weights_files().items()
    ]
    network = read_graphs(weights_files()[WEIGHTS])
    return json.dumps({
        **told[0], "graphs": told[1:], "config": network.config.to_dict(), "finish": network.finish.to_dict(),
    }).encode()


def export_page(folder: Path) -> None:
    """The page and its weights as files in ``folder``, for any static host. Raises InputError if it is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a new folder for the page")
    shutil.copytree(page_folder(), folder, dirs_exist_ok=True)
    for name, path in weights_files().items():
        shutil.copyfile(path, folder / name)
    (folder / "weights.json").write_bytes(weights_json())


class PageHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the page's files."""

    server_version = "diffsal"
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Answer with a file of the page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with a file's headers."""
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        if not self._names_this_computer():
            self._send(403, "text/plain", b"This page answers requests for localhost only.\n", with_body)
            return
        name = self.path.split("?")[0].split("#")[0].lstrip("/") or "index.html"
        body = self._file(name)
        if body is None:
            self._send(404, "text/plain", b"No such file.\n", with_body)
        else:
            self._send(200, TYPES.get(Path(name).suffix, "application/octet-stream"), body, with_body)

    def _names_this_computer(self) -> bool:
        # Another site whose name was pointed here (DNS rebinding) still says its own name
        port = self.connection.getsockname()[1]
        return self.headers.get("Host", "") in {f"localhost:{port}", f"{HOST}:{port}"}

    @staticmethod
    def _file(name: str) -> bytes | None:
        if name == "weights.json":
            return weights_json()
        path = weights_files().get(name, page_folder() / name)
        # The page's folder is flat: a name is one of its files or nothing
        return path.read_bytes() if "/" not in name and "\\" not in name and path.is_file() else None

    def _send(self, status: int, kind: str, body: bytes, with_body: bool) -> None:
        self.send_response(status)
        for key, value in HEADERS.items():
            self.send_header(key, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            with suppress(ConnectionError):  # the browser no longer wants it
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing for each request."""


def page_server(port: int) -> ThreadingHTTPServer:
    """A server for the page on the loopback address; port 0: any free one. Raises InputError if the port is taken."""
    if not (page_folder() / "index.html").is_file():
        raise InputError(f"{page_folder()}: the page is not built; run `npm ci && npm run build` in web/")
    try:
        server = ThreadingHTTPServer((HOST, port), PageHandler)
    except OSError as error:
        raise InputError(f"port {port}: cannot be used ({error.strerror}); try --port {port + 1}") from None
    server.daemon_threads = True
    return server
