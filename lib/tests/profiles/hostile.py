"""An OpenAI-compatible server on the loopback that does to each user what the user's prompt says, and counts."""

import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]})

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize":
            with self.server.lock:
                self.server.counted[sent["prompt"]] += 1
            return self.reply(*self.server.tokenize(sent["prompt"], self.server.counted[sent["prompt"]]))
        self.server.keys.add(self.headers["Authorization"])
        word = sent["messages"][-1]["content"]
        with self.server.lock:
            self.server.asked[word] += 1
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        try:
            self.behave(word.split()[0], self.server.asked[word], sent)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.now -= 1

    def behave(self, word, count, sent):
        good = completion(sent["model"], f"a viewer of this and that, number {sent['messages'][-1]['content']}")
        if word == "limited" and count == 1:
            return self.reply(429, {"error": {"message": "slow down"}}, [("Retry-After", "0.2")])
        if word == "broken" or (word == "mended" and count == 1):
            return self.reply(500, {"error": {"message": "oops"}})
        if word == "hang":
            time.sleep(5)
        if word == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choi')
            self.wfile.flush()
            self.close_connection = True
            return None
        if word == "slow":
            time.sleep(0.1)
        answers = {
            "empty": {**good, "choices": []},
            "silent": completion(sent["model"], "  "),
            "garbage": b"{this is not JSON",
            "list": b"[1, 2]",
            "surrogate": completion(sent["model"], "a viewer \ud800 of this and that"),
            "parts": completion(sent["model"], [{"type": "text", "text": "a viewer"}]),
            "choices": {**good, "choices": "none"},
            "choice": {**good, "choices": [7]},
            "usage": {**good, "usage": "much"},
            "counts": {**good, "usage": {"prompt_tokens": "many", "completion_tokens": 3, "total_tokens": 10}},
            "finish": {**good, "choices": [{**good["choices"][0], "finish_reason": ["stop"]}]},
            "huge": completion(sent["model"], "x" * 10_000_000),
            "stranger": completion("somebody-else", "a viewer of other things"),
        }
        if self.server.gemma and sent["messages"][0]["role"] == "system":
            return self.reply(400, {"error": {"message": "System role not supported"}})
        if word == "refused":
            return self.reply(400, {"error": {"message": "the prompt is too long"}})
        if word == "unknown":
            return self.reply(404, {"error": {"message": "no such model"}})
        if word == "forbidden":
            return self.reply(401, {"error": {"message": "wrong key: secret-key"}})
        return self.reply(200, answers.get(word, good))


def completion(model, text):
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@contextmanager
def serving(models=("tiny",)):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.models, server.asked, server.keys, server.gemma = models, Counter(), set(), False
    server.tokenize, server.counted = lambda text, count: (404, {"error": "no such path"}), Counter()
    server.lock, server.now, server.most = threading.Lock(), 0, 0
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
