"""An OpenAI-compatible server on the loopback that does to each user what the user's prompt says, and counts."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, **fields):
    choices = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "1", "object": "chat.completion", "created": 1, "choices": choices, "usage": usage} | fields


INVALID = {  # bodies of status 200 that hold no answer
    "garbage": b"{this is not JSON",
    "list": [1, 2],
    "parts": completion([{"type": "text", "text": "a viewer"}]),
    "choice": completion("", choices=[7]),
    "usage": completion("a viewer", usage="much"),
    "counts": completion("a viewer", usage={"prompt_tokens": "many"}),
}
EMPTY = {"empty": completion("", choices=[]), "silent": completion("  ")}
BODIES = INVALID | EMPTY
STATUS = {"broken": 500, "busy": 409, "refused": 400, "unknown": 404, "forbidden": 401}
ONCE = {"limited": 429, "mended": 503}  # the first time only


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, length=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length or len(data)))
        if status != 200:
            self.send_header("Retry-After", "0.2")
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = length is not None

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})

    def do_POST(self):
        server, sent = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.keys.add(self.headers["Authorization"])
        text = sent["prompt"] if self.path == "/tokenize" else sent["messages"][-1]["content"]
        with server.lock:
            server.asked[text] += 1
            server.now += 1
            server.most = max(server.most, server.now)
        with suppress(BrokenPipeError, ConnectionResetError):
            if self.path == "/tokenize":
                self.reply(*server.tokenize(text, server.asked[text]))
            else:
                self.behave(text, server.asked[text], sent)
        with server.lock:
            server.now -= 1

    def behave(self, text, count, sent):
        word = text.split()[0]
        time.sleep({"hang": 4, "slow": 0.1}.get(word, 0))
        refused = self.server.gemma and sent["messages"][0]["role"] == "system"
        status = 400 if refused else STATUS.get(word) or (count == 1 and ONCE.get(word))
        if word == "refuses" and "max_tokens" in sent:
            self.reply(400, {"error": {"message": "use 'max_completion_tokens' instead of 'max_tokens'"}})
        elif word in ("long", "reasons"):
            cut, answer = sent["max_tokens"] < 200, f"a viewer of this and that, {sent['max_tokens']} words"
            answer = "<think>on and on" if cut and word == "reasons" else answer
            choice = {"finish_reason": "length" if cut else "stop", "message": {"content": answer}}
            self.reply(200, completion("", choices=[choice]))
        elif status:
            self.reply(status, {"error": {"message": "wrong key: secret-key"}})
        elif word == "cut":
            self.reply(200, b'{"choi', 1000)
        else:
            self.reply(200, BODIES.get(word, completion(f"a viewer of this and that, number {text}")))


@contextmanager
def serving(models=("tiny",)):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.models, server.asked, server.keys, server.gemma = models, Counter(), set(), False
    server.tokenize = lambda text, count: (404, {"error": "no such path"})
    server.lock, server.now, server.most = threading.Lock(), 0, 0
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
