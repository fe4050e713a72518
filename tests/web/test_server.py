"""The page's server answers this computer only, with the page's files only."""

import hashlib
import http.client
import json

import pytest

from diffsal.errors import InputError
from diffsal.web.server import SPEAKER_GRAPHS, export_page, page_folder, page_server, weights_files
from tests.web.chromium import serving

LARGEST_BYTES = 25 << 20  # of the page and its weights


@pytest.fixture(scope="module")
def port():
    with serving() as port:
        yield port


def ask(port: int, path: str, host: str | None = None, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"localhost:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer, answer.read()


def test_the_page_comes_with_the_headers_that_threads_need(port):
    answer, body = ask(port, "/")
    assert answer.status == 200 and b"Where will people look" in body
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert ask(port, "/", method="HEAD")[1] == b""


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "localhost", "localhost:1", "127.0.0.1.evil.example:{port}"]
)
def test_other_hosts_are_refused(port, host):
    assert ask(port, "/", host.format(port=port))[0].status == 403


@pytest.mark.parametrize(
    "path", ["/../server.py", "/..%2fserver.py", "//etc/passwd", "/page/index.html", "/.", "/%00", "/x" * 300]
)
def test_nothing_else_is_served(port, path):
    assert ask(port, path)[0].status == 404


def test_the_weights_are_those_that_their_hash_says(port):
    about = json.loads(ask(port, "/weights.json")[1])
    assert [told["file"] for told in about["graphs"]] == list(SPEAKER_GRAPHS)
    for told in (about, *about["graphs"]):
        body = ask(port, "/" + told["file"])[1]
        assert hashlib.sha256(body).hexdigest() == told["sha256"] and len(body) == told["bytes"]
    assert about["config"]["video_encoder"] == "mobilenet_v2" and about["finish"]["exponent"] > 1


def test_a_static_host_gets_every_file(tmp_path):
    export_page(tmp_path / "page")
    names = {p.name for p in (tmp_path / "page").iterdir()}
    assert names == {p.name for p in page_folder().iterdir()} | {"weights.json", *weights_files()}
    assert sum(p.stat().st_size for p in (tmp_path / "page").iterdir()) < LARGEST_BYTES
    with pytest.raises(InputError, match="not empty"):
        export_page(tmp_path / "page")


def test_a_port_in_use_is_one_line(port):
    with pytest.raises(InputError, match=f"port {port}: cannot be used"):
        page_server(port)
