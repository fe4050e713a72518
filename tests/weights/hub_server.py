"""A hub on this computer: what huggingface_hub asks of huggingface.co for models, in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_owner"


@dataclass
class Model:
    """A repository: its commits, oldest first, each the files by name."""

    commits: list[dict[str, bytes]] = field(default_factory=list)
    private: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    def sha(self, index: int) -> str:
        return hashlib.sha1(f"{index} {sorted(self.commits[index])}".encode()).hexdigest()

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        revision = self.tags.get(revision, revision)
        for index in range(len(self.commits))[::-1]:
            if revision in ("main", self.sha(index)):
                return self.sha(index), self.commits[index]
        return None


class Hub(ThreadingHTTPServer):
    """Serves ``models``; ``requests`` are (method, path, range); ``cuts`` answers end in the middle of a large file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: dict[str, Model] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.states: dict[str, str] = {}  # SHA-256 that is stated of a file instead of its own
        self.cuts = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*found.groups())
        else:
            self._error(404, "EntryNotFound")

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, None))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, None)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'owner'}/{asked['name']}"
            model = Model([{}], bool(asked.get("private")))
            known = self.server.models.setdefault(name, model) is not model
            self._json({"url": f"{self.server.url}/{name}", "id": name}, 409 if known else 200)
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = {f["path"]: "regular" if f["path"].endswith(".md") else "lfs" for f in files}
            self._json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            put = f"{self.server.url}/put/"
            self._json({"transfer": "basic", "objects": [
                {**o, "actions": {"upload": {"href": put + o["oid"]}}} for o in json.loads(body)["objects"]]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._error(404, "EntryNotFound")

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(data).hexdigest()
        self.server.objects[digest] = data
        self._answer(200 if self.path == f"/put/{digest}" else 400, b"")

    def _commit(self, name: str, lines: list[dict]) -> None:
        model = self.server.models[name]
        files = dict(model.commits[-1])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.server.objects[line["value"]["oid"]]
        model.commits.append(files)
        sha = model.sha(len(model.commits) - 1)
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def _model(self, name: str) -> Model | None:
        model = self.server.models.get(name)
        if model is None or (model.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._error(401, "RepoNotFound")  # the hub does not tell which
            return None
        return model

    def _info(self, name: str, revision: str) -> None:
        model = self._model(name)
        if model is None:
            return
        found = model.files(revision)
        if found is None:
            self._error(404, "RevisionNotFound")
            return
        siblings = []
        for file, data in found[1].items():
            digest = self.server.states.get(file) or hashlib.sha256(data).hexdigest()
            entry = {"rfilename": file, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if not file.endswith((".md", ".txt")):
                entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        self._json({"id": name, "sha": found[0], "private": model.private, "siblings": siblings, "tags": []})

    def _file(self, name: str, revision: str, file: str) -> None:
        model = self._model(name)
        if model is None:
            return
        found = model.files(revision)
        if found is None or file not in found[1]:
            self._error(404, "EntryNotFound" if found else "RevisionNotFound")
            return
        sha, files = found
        data = files[file]
        etag = self.server.states.get(file) or hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes", "X-Linked-Size": str(len(data)),
                   "X-Linked-ETag": f'"{etag}"'}
        status, first = 200, 0
        if asked := re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range") or ""):
            status, first = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and self.server.cuts and len(data) > 1000:
            self.server.cuts -= 1
            self._answer(status, data[first:], headers, sent=len(data[first:]) // 2)
            self.close_connection = True
        else:
            self._answer(status, data[first:], headers)

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str | None) -> None:
        self._answer(status, b'{"error": "refused"}', {"X-Error-Code": code} if code else {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])
