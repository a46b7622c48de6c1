"""Takes webhooks: prints each call that is signed with WEBHOOK_TOKEN, and accepts it."""

import hashlib
import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = os.environ["WEBHOOK_TOKEN"]
ACCEPTED = json.dumps({"ActionStatus": "OK", "ErrorCode": 0, "ErrorInfo": ""}).encode()
BODY_BYTES_MAX = 1 << 20


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b"{}")

    def do_POST(self):
        length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
        body = self.rfile.read(length)
        if not self.is_signed():
            self.answer(401, b"{}")
            return
        print(self.headers.get("webhook-id"), body.decode("utf-8", "replace"), flush=True)
        self.answer(200, ACCEPTED)

    def is_signed(self):
        query = parse_qs(urlsplit(self.path).query)
        time, sign = (query.get(name, [""])[0] for name in ("RequestTime", "Sign"))
        expected = hashlib.sha256((TOKEN + time).encode()).hexdigest()
        return hmac.compare_digest(sign.encode(), expected.encode())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8000), Receiver).serve_forever()
