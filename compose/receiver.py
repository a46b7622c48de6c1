"""Takes webhooks: prints each call and accepts it."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCEPTED = json.dumps({"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}).encode()
BODY_BYTES_MAX = 1 << 20


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
        body = self.rfile.read(length)
        print(self.headers.get("webhook-id"), body.decode("utf-8", "replace"), flush=True)
        self.answer(ACCEPTED)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8000), Receiver).serve_forever()
