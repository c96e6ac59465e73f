"""A tracking server on 127.0.0.1 that behaves in every wrong way, or as MLflow's does."""

import contextlib
import http.server
import json
import socketserver
import threading
import time
from urllib.parse import parse_qs, urlsplit

KINDS = ("500", "401", "403", "404", "html", "list", "redirects", "ends", "hangs", "drips")
"""What it may do wrong; `slow` answers rightly after two seconds, and `right` at once."""


class TrackingServer(http.server.ThreadingHTTPServer):
    """Answers MLflow's requests in one way.

    Attributes:
        kind: One of `KINDS`, `slow` or `right`; may be changed while it serves.
        runs: What runs it knows, by id: their tags and what was logged.
        asked: Method and path of all requests.
    """

    daemon_threads = True

    def __init__(self, kind):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kind, self.runs, self.asked, self.experiments = kind, {}, [], {}
        self.heads, self.over = [], threading.Event()

    def handle_error(self, request, client_address):
        """Say nothing of a client that went away."""

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def serving(kind):
    """Serve inside."""
    server = TrackingServer(kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port():
    """Return an address at which nobody listens."""
    with socketserver.TCPServer(("127.0.0.1", 0), None) as server:
        return f"127.0.0.1:{server.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _answer(self):
        kind, over = self.server.kind, self.server.over
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = urlsplit(self.path)
        self.server.asked.append((self.command, path.path))
        self.server.heads.append(str(self.headers))
        if kind == "hangs":
            over.wait()
            self.close_connection = True
        elif kind == "drips":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.3):
                self.wfile.write(b" ")
        elif kind == "ends":
            self.close_connection = True
        elif kind == "redirects":
            self._send(302, b"", Location=self.path)
        elif kind.isdecimal():
            self._send(int(kind), b"<html>user:word says no</html>")
        elif kind == "html":
            self._send(200, b"<html>Sign in</html>")
        elif kind == "list":
            self._send(200, b"[]")
        else:
            if kind == "slow":
                over.wait(2.0)
            query = {name: values[0] for name, values in parse_qs(path.query).items()}
            is_json = body[:1] == b"{" and "artifacts" not in path.path
            content = self._right(path.path, json.loads(body) if is_json else query)
            code = 200 if content is not None else 404
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is none"}
            self._send(code, json.dumps(content if code == 200 else missing).encode())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, code, content, **headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _right(self, path, asked):
        """Return what MLflow answers, as far as the mirror looks at it."""
        server, call = self.server, path.partition("/mlflow/")[2]
        if call == "experiments/get-by-name":
            found = server.experiments.get(asked["experiment_name"])
            return None if found is None else {"experiment": found}
        if call == "experiments/create":
            number = str(len(server.experiments) + 1)
            known = {"experiment_id": number, "name": asked["name"], "lifecycle_stage": "active"}
            server.experiments[asked["name"]] = known
            return {"experiment_id": number}
        if call == "runs/create":
            number = f"{len(server.runs):032x}"
            info = {"run_id": number, "run_uuid": number, "status": "RUNNING"}
            info |= {"experiment_id": asked["experiment_id"], "lifecycle_stage": "active"}
            info["artifact_uri"] = f"mlflow-artifacts:/{number}"
            data = {"tags": asked.get("tags", []), "params": [], "metrics": []}
            server.runs[number] = {"info": info, "data": data}
            return {"run": server.runs[number]}
        if call == "runs/search":
            return {"runs": list(server.runs.values())}
        if call == "runs/get":
            return {"run": server.runs[asked["run_id"]]}
        if call == "runs/log-batch":
            data = server.runs[asked["run_id"]]["data"]
            for name in ("metrics", "params", "tags"):
                data[name] = data[name] + asked.get(name, [])
        if call == "runs/update":
            server.runs[asked["run_id"]]["info"]["status"] = asked.get("status")
            return {"run_info": server.runs[asked["run_id"]]["info"]}
        return {}


def waited(work):
    """Return how many seconds something took."""
    began = time.monotonic()
    work()
    return time.monotonic() - began
