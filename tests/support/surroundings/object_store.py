"""A real S3 server on loopback, that can be killed and started again, and what disturbs the way to it."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.exceptions
import s3fs

BUCKET = "runs"


class ObjectStore:
    """SeaweedFS, with one bucket and one user; everything lies in a folder."""

    def __init__(self, folder: Path) -> None:
        weed = Path(sys.executable).with_name("weed")
        config = folder / "s3.json"
        user = {
            "name": "tests",
            "credentials": [{"accessKey": "key", "secretKey": "secret"}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        config.write_text(json.dumps({"identities": [user]}))
        services = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
        ports = dict(zip(services, _free_ports(len(services)), strict=True))
        self.port = ports["s3"]
        named = [
            f"-{service}.port{'.grpc' if grpc else ''}={port}"
            for service, _, grpc, port in ((*name.partition("."), port) for name, port in ports.items())
        ]
        self._command = [
            str(weed), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", *named,
            "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}", "-volume.max=8",
            "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0", "-volume.minFreeSpace=0",
            "-master.electionTimeout=1s", "-master.heartbeatInterval=100ms",
            f"-filer.localSocket={folder}/filer.sock",
        ]  # fmt: skip
        self._log = (folder / "log").open("ab")
        self.start()

    @property
    def options(self) -> dict[str, Any]:
        """``storage_options`` for the server itself."""
        return options(self.port)

    def start(self) -> None:
        """Start, and return when objects are taken."""
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=subprocess.STDOUT)
        files = s3fs.S3FileSystem(**self.options, skip_instance_cache=True, use_listings_cache=False)
        answer: Exception | None = None
        for _ in range(300):
            try:
                if not files.exists(BUCKET):
                    files.mkdir(BUCKET)
                # An empty object needs no volume, and is taken before there is one.
                files.pipe_file(f"{BUCKET}/probe", b"probe")
            except OSError as error:
                answer = error
            except botocore.exceptions.BotoCoreError as error:
                answer = error
            else:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"weed takes no objects; see {self._log.name}") from answer

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._log.close()


def options(port: int, attempts: int = 3) -> dict[str, Any]:
    """``storage_options`` for a server on loopback."""
    return {
        "key": "key",
        "secret": "secret",
        "endpoint_url": f"http://127.0.0.1:{port}",
        "config_kwargs": {"retries": {"mode": "standard", "max_attempts": attempts}, "read_timeout": 5},
    }


def is_available() -> bool:
    """Whether the server is installed."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) is not None


class Proxy:
    """Hands requests on to a server on loopback, notes them, and disturbs those that `disturb` says.

    Attributes
    ----------
    disturb : callable
        Asked with the number of the request (from 0), its method and its path. ``"503"``: answered so,
        without asking the server; ``"slow"``: asked late; ``"drop"``: the connection ends after the server
        has done it; None: handed on.
    requests : list of (method, path)
    most_at_once : int
        Requests that were under way at the same time.
    """

    def __init__(self, port: int) -> None:
        self.requests: list[tuple[str, str]] = []
        self.disturb: Callable[[int, str, str], str | None] = lambda *_: None
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._upstream = port
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def _handle(self) -> None:
                outer._handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - the names http.server calls

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            number = len(self.requests)
            self.requests.append((request.command, request.path))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            what = self.disturb(number, request.command, request.path)
            if what == "503":
                request.send_response(503)
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            if what == "slow":
                time.sleep(0.3)
            status, headers, answer = self._ask(request, body)
            if what == "drop":
                request.close_connection = True
                return
            request.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    request.send_header(name, value)
            request.end_headers()
            request.wfile.write(answer)
        finally:
            with self._lock:
                self._at_once -= 1

    def _ask(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=30)
        try:
            server.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in ("connection", "expect"):
                    server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            data = answer.read()
            headers = answer.getheaders()
            if "Content-Length" not in dict(headers):
                headers.append(("Content-Length", str(len(data))))
            return answer.status, headers, data
        finally:
            server.close()


def _free_ports(count: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in listening]
    for server in listening:
        server.close()
    return ports
