"""A small server on loopback that speaks the calls of the Hub by which repositories are made, filled and loaded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN, READ_ONLY = "hf_write", "hf_read"
LARGE = (".safetensors",)
REVISION = "1" * 40


@dataclass
class Hub:
    """What the server has received.

    Attributes:
        address: for HF_ENDPOINT.
        repositories: files by repository, as of the last commit.
        commits: `(repository, summary, paths)`.
        uploads: contents of large files by their sha256.
        broken: whether commits fail.
    """

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    commits: list[tuple[str, str, list[str]]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    broken: bool = False


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def may_write(self) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token == TOKEN:
            return True
        status = 403 if token == READ_ONLY else 401
        self.answer({"error": "You don't have the rights" if token == READ_ONLY else "Invalid credentials"}, status)
        return False

    def do_POST(self) -> None:
        body = self.body()
        if not self.may_write():
            return
        if self.path == "/api/repos/create":
            self.create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                one | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif self.hub.broken and self.path.endswith("/commit/main"):
            self.answer({"error": "The disks are being changed"}, 400)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self.commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer({"error": f"unknown: {self.path}"}, 404)

    def whoami(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if role := {TOKEN: "write", READ_ONLY: "read"}.get(token):
            self.answer({"name": "someone", "orgs": [], "auth": {"accessToken": {"role": role}}})
        else:
            self.answer({"error": "Invalid credentials"}, 401)

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        if name in self.hub.repositories:
            self.answer({"error": "You already created this model repo", "url": f"{self.hub.address}/{name}"}, 409)
            return
        self.hub.repositories[name] = {}
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(name)
        self.answer({"url": f"{self.hub.address}/{name}", "name": name})

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        self.hub.repositories[name] |= files
        self.hub.commits.append((name, lines[0]["value"]["summary"], sorted(files)))
        self.answer(
            {"success": True, "commitOid": REVISION, "commitUrl": f"{self.hub.address}/{name}/commit/{REVISION}"}
        )

    def do_PUT(self) -> None:
        content = self.body()
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.hub.uploads[self.path.rpartition("/")[2]] = content
        self.answer({})

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2":
            self.whoami()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", self.path.partition("?")[0]):
            files = self.hub.repositories.get(match[1])
            if files is None:
                self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            self.answer({"id": match[1], "sha": REVISION, "siblings": [{"rfilename": name} for name in files]})
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            content = self.hub.repositories.get(match[1], {}).get(match[2])
            if content is None:
                self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.answer(content, headers={"ETag": etag, "X-Repo-Commit": REVISION})
        else:
            self.answer({"error": f"unknown: {self.path}"}, 404)

    do_HEAD = do_GET


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The server, for as long as the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def online(address: str, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    """The environment in which a program meets this server as the Hub; the other tests run without the Hub."""
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "COLUMNS": "200"}
    return environment | {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "HF_TOKEN": token or ""}
