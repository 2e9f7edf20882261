"""A web server on 127.0.0.1 that misbehaves as asked."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class FileServer(http.server.ThreadingHTTPServer):
    """Serves `files` by path, and notes what is asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []  # the ranges, "" where all is wanted
        self.cuts: list[int] = []  # the next answers end after so many bytes
        self.tag = '"1"'  # the version; none: the server tells none
        self.kind = "application/octet-stream"
        self.understands_ranges = True
        self.minds_versions = True  # sends everything where If-Range names another version
        self.tells_length = True  # otherwise it sends in chunks, or
        self.ends_by_closing = False  # without any sign of the end
        self.pause_after = -1  # bytes after which it waits for `go`
        self.go = threading.Event()

    @property
    def address(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        content, wanted = server.files[self.path], self.headers.get("Range", "")
        server.asked.append(wanted)
        changed = server.minds_versions and self.headers.get("If-Range", server.tag) != server.tag
        start = int(wanted[6:-1]) if wanted and server.understands_ranges and not changed else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.kind:
            self.send_header("Content-Type", server.kind)
        if server.tag:
            self.send_header("ETag", server.tag)
        chunked = not (server.tells_length or server.ends_by_closing)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        cut = server.cuts.pop(0) if server.cuts else len(body)
        for first in range(0, cut, 50_000):
            if 0 <= server.pause_after <= first:
                server.go.wait(30)
            piece = body[first : min(first + 50_000, cut)]
            try:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            except OSError:
                return
        if chunked and cut == len(body):
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[FileServer]:
    """Run a `FileServer` in a thread."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        server.shutdown()
        server.server_close()
