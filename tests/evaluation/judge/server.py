"""An OpenAI-compatible endpoint of this machine, which says what a test wants and fails on demand."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JudgeServer:
    """Answers chat completions.

    Attributes:
        reply: From a prompt to the judge's reply.
        failures: For each of the next requests a status (with headers as a dict), "drop", or seconds to wait.
        asked: Path, Authorization header and body of each request.
    """

    def __init__(self, url):
        self.url = url
        self.reply = lambda prompt: "yes"
        self.failures, self.asked = [], []

    def answer(self, handler):
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.asked.append((handler.path, handler.headers.get("Authorization"), body))
        failure = self.failures.pop(0) if self.failures else None
        if failure == "drop":
            handler.close_connection = True
            return
        if isinstance(failure, float):
            time.sleep(failure)
        status, headers = failure if isinstance(failure, tuple) else (200, {})
        text = f"refused {handler.headers.get('Authorization')}"
        if status == 200:
            message = {"role": "assistant", "content": self.reply(body["messages"][0]["content"])}
            text = json.dumps({"choices": [{"index": 0, "message": message}]})
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(text.encode())

    @property
    def prompts(self):
        return [body["messages"][0]["content"] for _, _, body in self.asked]


@contextmanager
def serving():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            judge.answer(self)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge = JudgeServer(f"http://127.0.0.1:{http.server_port}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield judge
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
