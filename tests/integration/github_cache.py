"""A stand-in for the cache service of GitHub Actions, second version, as far as BuildKit speaks to it.

Protocol: tonistiigi/go-actions-cache `api.md` and `cache_v2.go`: three calls with JSON, and blobs as Azure stores them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_SERVICE = "/twirp/github.actions.results.api.v1.CacheService/"


@dataclass(kw_only=True)
class GithubCache:
    """The service, and what it was asked.

    Attributes:
        url: What a runner has in `ACTIONS_RESULTS_URL`.
        token: What it has in `ACTIONS_RUNTIME_TOKEN`.
        asked: The calls: what was called, the bearer token, and what was said.
        entries: What is stored, by key, oldest first.
    """

    url: str
    token: str
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    entries: dict[str, bytes] = field(default_factory=dict)
    blocks: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def called(self, name: str) -> list[dict[str, Any]]:
        """What was said in calls of a name."""
        return [said for asked, _, said in self.asked if asked == name]

    def answer(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        """What the service answers to a call."""
        place = f"{self.url}blob/{urllib.parse.quote(said['key'], safe='')}"
        if name == "CreateCacheEntry":
            return {"ok": said["key"] not in self.entries, "signed_upload_url": place}
        if name == "FinalizeCacheEntryUpload":
            return {"ok": len(self.entries.get(said["key"], b"")) == int(said["size_bytes"]), "entry_id": "1"}
        # The newest whose key begins as asked.
        found = next((key for key in reversed(self.entries) if key.startswith(said["key"])), None)
        if found is None:
            return {"ok": False}
        place = f"{self.url}blob/{urllib.parse.quote(found, safe='')}"
        return {"ok": True, "signed_download_url": place, "matched_key": found}


def runner_token(branch: str) -> str:
    """A runner's token: what it may do stands in it for whoever reads it; nobody here looks at the signature."""
    scopes = [{"Scope": f"refs/heads/{branch}", "Permission": 3}]
    claims = {"ac": json.dumps(scopes), "nbf": int(time.time()) - 60, "exp": int(time.time()) + 3600}
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join((*texts, "c2lnbmF0dXJl"))


@contextlib.contextmanager
def github_cache(branch: str = "main") -> Iterator[GithubCache]:
    """Starts the service, as a runner that builds a branch sees it, and ends it."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            name = self.path.removeprefix(_SERVICE)
            said = json.loads(self.body())
            with lock:
                cache.asked.append((name, self.headers.get("Authorization", "").removeprefix("Bearer "), said))
                answer = cache.answer(name, said)
            self.reply(200, json.dumps(answer).encode())

        def do_PUT(self) -> None:
            key, query = self.blob()
            body = self.body()
            with lock:
                if query.get("comp") == "block":
                    cache.blocks[key, query["blockid"]] = body
                elif query.get("comp") == "blocklist":
                    names = re.findall(r"<Latest>([^<]*)</Latest>", body.decode())
                    cache.entries[key] = b"".join(cache.blocks[key, name] for name in names)
                else:
                    cache.entries[key] = body
            self.reply(201, b"")

        def do_GET(self) -> None:
            key, _ = self.blob()
            data = cache.entries[key]
            wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("x-ms-range", ""))
            if wanted is None:
                self.reply(200, data)
                return
            start, end = int(wanted[1]), int(wanted[2] or len(data) - 1) + 1
            part = data[start:end]
            self.reply(206, part, {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}"})

        def blob(self) -> tuple[str, dict[str, str]]:
            parts = urllib.parse.urlsplit(self.path)
            return urllib.parse.unquote(parts.path.removeprefix("/blob/")), dict(urllib.parse.parse_qsl(parts.query))

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            # The daemon logs it without looking whether it is there.
            known = {"x-ms-request-id": "1", "ETag": '"1"', "Content-Length": str(len(body)), **(headers or {})}
            for name, value in known.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        cache = GithubCache(url=f"http://127.0.0.1:{server.server_port}/", token=runner_token(branch))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield cache
        finally:
            server.shutdown()
            thread.join()
