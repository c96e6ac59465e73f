"""A server on 127.0.0.1 for downloads that break off, and archives to serve."""

import hashlib
import http.server
import zipfile

CONTENT = bytes(range(256)) * 20_000


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; can cut answers off, forget ranges, and remembers what was asked for."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {"/data.bin": CONTENT}, []
        self.cut_at, self.ranges, self.tags = None, True, True
        self.cut_once = []  # where to cut the answers to come, one after the other

    def url(self, name="data.bin"):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        if self.path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[self.path]
        tag = '"' + hashlib.md5(content).hexdigest() + '"'
        start = 0
        if wanted and self.server.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if self.server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut_at = self.server.cut_once.pop(0) if self.server.cut_once else self.server.cut_at
        end = len(content) if cut_at is None else cut_at
        self.wfile.write(content[start : max(start, end)])
        self.close_connection = True


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path
