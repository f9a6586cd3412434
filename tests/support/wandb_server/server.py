"""The stand-in's HTTP side: GraphQL, the stream of a run's lines, and bytes up and down."""

import base64
import dataclasses
import gzip
import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from wandb_server.artifacts import storage_path
from wandb_server.graphql import Document, QueryError, execute
from wandb_server.objects import HISTORY, Objects
from wandb_server.schema import Schema, errors
from wandb_server.state import ENTITY, Conflict, Run, State, now

KEY = "0" * 40
"""The only API key that is let in."""


@dataclasses.dataclass
class Failure:
    """What goes wrong, and for which requests: those whose path and operation the pattern finds."""

    kind: str | int
    """`down` (the connection is closed), `slow`, or an HTTP status."""
    pattern: str = ""
    times: int = 2**30
    seconds: float = 1.0
    """How long a slow answer takes."""
    hits: int = 0

    def matches(self, what: str) -> bool:
        """Tell whether a request is to go wrong."""
        return self.hits < self.times and re.search(self.pattern, what) is not None


class WandbServer:
    """The stand-in, running in threads of this process from `with` to its end."""

    def __init__(self) -> None:
        self.state = State()
        self.refused: list[str] = []
        self.requests: list[str] = []
        self.failures: list[Failure] = []
        self.uplink = math.inf
        """Bytes per second at which files come, all connections together."""
        self.lock = threading.RLock()
        self._uplink_lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.stand_in = self
        self._schema = Schema(self.state, Objects(self.state, self.address))
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "WandbServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Return the base URL: what WANDB_BASE_URL is set to."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def address(self, path: str) -> str:
        """Return where stored bytes are put to and fetched from."""
        return f"{self.url}/storage/{quote(path)}"

    def fail(self, kind: str | int, pattern: str = "", times: int = 2**30, seconds: float = 1.0) -> Failure:
        """Go wrong from now on, for as many matching requests as are named; `heal` ends it."""
        failure = Failure(kind, pattern, times, seconds)
        self.failures.append(failure)
        return failure

    def heal(self) -> None:
        """Work again."""
        self.failures.clear()

    def run(self, project: str, name: str, entity: str = ENTITY) -> Run:
        """Return a run that must be there."""
        found = self.state.project(entity, project)
        if found is None or name not in found.runs:
            raise KeyError(
                f"no run {entity}/{project}/{name}; there are {[list(p.runs) for p in self.state.projects.values()]}"
            )
        return found.runs[name]

    def history(self, project: str, name: str, entity: str = ENTITY) -> list[dict[str, Any]]:
        """Return a run's rows in the order they came."""
        return [json.loads(line) for line in self.run(project, name, entity).stream(HISTORY)]

    def wait_for(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the client did not do what was waited for")
            time.sleep(0.05)

    def delete_run(self, project: str, name: str, entity: str = ENTITY) -> None:
        """Delete a run as a person does on its page, with what it logged; its id is never given out again."""
        run = self.run(project, name, entity)
        del run.project.runs[name]
        run.project.deleted.add(name)
        for version in self.state.versions():
            if version.created_by is run:
                version.state = "DELETED"

    # what the handler calls

    def receive(self, stream: BinaryIO, length: int, what: str) -> Iterator[bytes]:
        """Read a file as slowly as the uplink lets it through, and no further once the server is down."""
        while length > 0 and not any(one.kind == "down" and one.matches(what) for one in list(self.failures)):
            if not (piece := stream.read(min(length, 8192))):
                return
            with self._uplink_lock:
                time.sleep(len(piece) / self.uplink)
            length -= len(piece)
            yield piece

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer one document."""
        document = Document(body["query"])
        return {"data": execute(document, body.get("variables") or {}, self._schema.root())}

    def file_stream(self, entity: str, project: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Take lines of a run at their offsets, and how it ended."""
        run = self._schema.run(entity, project, name)
        run.heartbeat_at = now()
        unknown = set(body) - {"files", "complete", "exitcode", "dropped", "uploaded", "preempting"}
        if unknown:
            raise QueryError(f"the file stream does not know {sorted(unknown)}")
        for file, chunk in (body.get("files") or {}).items():
            self._place(run, file, chunk["offset"], chunk["content"])
        if body.get("complete"):
            run.exit_code = body.get("exitcode") or 0
            run.state = "finished" if run.exit_code == 0 else "failed"
        return {"exitcode": run.exit_code, "limits": {}}

    def _place(self, run: Run, file: str, offset: int, content: list[str]) -> None:
        if file == "wandb-summary.json":
            run.fields["summaryMetrics"] = content[-1]
            return
        lines = run.stream(file)
        if offset > len(lines) and file != "output.log":
            raise QueryError(f"{file} of {run.name} continues at line {offset}, but {len(lines)} have come")
        lines[len(lines) :] = [""] * (offset - len(lines))
        lines[offset : offset + len(content)] = content


class _Http(ThreadingHTTPServer):
    stand_in: WandbServer
    daemon_threads = True

    def server_bind(self) -> None:
        """Keep little of what comes before it is read: a client can then see how fast its bytes go."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # of Ethernet, not of loopback
        super().server_bind()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET  # noqa: N815 - the base class's names

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        path = unquote(urlsplit(self.path).path)
        what, stand_in = f"{self.command} {path}", self.server.stand_in
        is_file = self.command == "PUT"
        body = b"".join(stand_in.receive(self.rfile, length, what)) if is_file else self.rfile.read(length)
        if len(body) < length:  # the client was killed while it sent, or the server as it listened
            self.close_connection = True
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with stand_in.lock:
            what += self._operation(path, body)
            stand_in.requests.append(what)
        if self._failed(what):
            return
        try:
            with stand_in.lock:
                self._answer(*self._route(path, body))
        except Conflict as error:
            self._answer(409, json.dumps(errors(str(error))).encode())
        except ConnectionError:  # the client was killed while it waited
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - a fault of the stand-in's own must be heard of, too
            reason = f"{what}: {type(error).__name__}: {error}"
            with stand_in.lock:
                stand_in.refused.append(reason)
            self._answer(400, json.dumps(errors(reason)).encode())

    def _operation(self, path: str, body: bytes) -> str:
        """Name what GraphQL is asked for, and the type of an artifact that is to be created or committed."""
        if path != "/graphql":
            return ""
        document = json.loads(body)
        match = re.search(r"(?:query|mutation)\s+(\w+)", document["query"])
        if match is None:
            return ""
        variables = document.get("variables") or {}
        version = self.server.stand_in.state.version(variables.get("artifactID", ""))
        kind = ""
        if match[1] == "CommitArtifact" and version:
            kind = f" {version.collection.type}"
        elif match[1] == "CreateArtifact":
            kind = f" {variables.get('input', variables).get('artifactTypeName', '')}"
        return f" {match[1]}{kind}"

    def _failed(self, what: str) -> bool:
        for failure in list(self.server.stand_in.failures):
            if not failure.matches(what):
                continue
            failure.hits += 1
            if failure.kind == "slow":
                time.sleep(failure.seconds)
                continue
            if failure.kind == "down":
                self.close_connection = True
                self.connection.close()
            else:
                self._answer(int(failure.kind), json.dumps(errors(f"told to fail with {failure.kind}")).encode())
            return True
        return False

    def _route(self, path: str, body: bytes) -> tuple[int, bytes]:
        stand_in, place = self.server.stand_in, path.removeprefix("/storage/")
        if place != path:
            return self._storage(place, body)
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            return 401, json.dumps(errors("wrong API key")).encode()
        if self.command == "POST" and path == "/graphql":
            return 200, json.dumps(stand_in.graphql(json.loads(body))).encode()
        if self.command == "POST" and (match := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path)):
            return 200, json.dumps(stand_in.file_stream(*match.groups(), json.loads(body))).encode()
        if self.command == "GET" and (match := re.fullmatch(r"/artifactsV2/.*/([0-9a-f]{32})/[^/]+", path)):
            return self._storage(storage_path(base64.b64encode(bytes.fromhex(match[1])).decode()), b"")
        raise QueryError("there is nothing at this address")

    def _storage(self, place: str, body: bytes) -> tuple[int, bytes]:
        state = self.server.stand_in.state
        if self.command == "PUT":
            state.storage[place] = body
            state.uploads.append(place)
            return 200, b""
        if place not in state.storage:
            return 404, b""
        return 200, state.storage[place]

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
