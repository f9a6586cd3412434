"""A reverse proxy on this machine that serves another server's pages under a prefix, as nginx does."""

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class Handler(BaseHTTPRequestHandler):
    """Passes one request on, and its answer back piece by piece; what lies outside of the prefix is not there."""

    upstream, prefix = "", ""

    def pass_on(self):
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404)
            return
        self.server.paths.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        with contextlib.closing(http.client.HTTPConnection(self.upstream)) as connection:
            connection.request(self.command, self.path.removeprefix(self.prefix), body, headers)
            with connection.getresponse() as answer:
                self._answer(answer)

    def _answer(self, answer):
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        # the browser may leave the page, and the server end, in the middle of a stream
        with contextlib.suppress(ConnectionError, http.client.IncompleteRead):
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()

    do_GET = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815 (the names that http.server looks for)

    def log_message(self, *_):
        """Say nothing."""


@contextlib.contextmanager
def proxied(address, prefix):
    """Serve an address under a prefix on a free port; give the new address, and the paths that were asked for."""
    handler = type("Handler", (Handler,), {"upstream": urlsplit(address).netloc, "prefix": prefix})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.paths = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}{prefix}", server.paths
        server.shutdown()
