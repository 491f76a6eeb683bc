"""A server of this machine that answers like a file server, a package index or a hub, and fails on demand."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``files`` by path. ``cut`` breaks the next answers for a path after so many bytes of the file.

    Attributes:
        files: Content by path ("/a/b.bin").
        cut: By path: for each of the next answers the byte after which the connection ends.
        ranges: Whether requests for ranges are obeyed.
        marks: Whether answers have an ETag.
        statuses: Another status by path.
        asked: Path and Range header of each request.
    """

    def __init__(self, url):
        self.url = url
        self.files, self.cut, self.statuses, self.asked = {}, {}, {}, []
        self.ranges = self.marks = True

    def answer(self, handler):
        path, wanted = handler.path, handler.headers.get("Range")
        self.asked.append((path, wanted))
        status = self.statuses.get(path, 200 if path in self.files else 404)
        if status != 200:
            handler.send_error(status)
            return
        content = self.files[path]
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start and handler.headers.get("If-Range") not in (None, tag):
            start = 0
        if start > len(content):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.marks:
            handler.send_header("ETag", tag)
        kind = "vnd.pypi.simple.v1+json" if path.startswith("/simple/") else "octet-stream"
        handler.send_header("Content-Type", f"application/{kind}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        ends = self.cut.get(path)
        handler.wfile.write(content[start : ends.pop(0) if ends else None])


@contextmanager
def serving():
    """A running server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # a connection ends with its answer

        def do_GET(self):
            self.server.of.answer(self)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.of = FileServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.of
    finally:
        server.shutdown()
        server.server_close()


NOWHERE = "http://127.0.0.1:9"  # nothing listens there
