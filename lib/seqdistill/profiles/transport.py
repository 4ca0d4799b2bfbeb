"""HTTP beneath the openai client: responses of servers that nobody vouches for, within limits and without the key."""

import math
import re
import time
from contextlib import closing

import httpx2
import openai

MOST = 8 << 20  # bytes of a response, unpacked: 60 times the longest answer that is asked for


class Client(openai.DefaultHttpxClient):
    """Reads responses within the request's time-out, all in all, and `MOST` bytes; stays with the host it asked."""

    def send(self, request: httpx2.Request, **settings: object) -> httpx2.Response:
        """Send a request and read the response; httpx2.TransportError if that takes too long or too much memory."""
        request.headers["Accept-Encoding"] = "identity"
        limit = request.extensions["timeout"]["read"] or math.inf
        begun, parts, size = time.monotonic(), [], 0
        response = super().send(request, **settings | {"stream": True, "follow_redirects": False})
        if (onward := response.next_request) and onward.url.host == request.url.host:
            response.close()
            response = super().send(onward, **settings | {"stream": True, "follow_redirects": False})
        with closing(response):
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MOST:
                    raise httpx2.RemoteProtocolError("oversized answer")
                if time.monotonic() - begun > limit:
                    raise httpx2.ReadTimeout("time-out")
        headers = [(name, value) for name, value in response.headers.items() if name != "content-encoding"]
        whole = httpx2.Response(response.status_code, headers=headers, content=b"".join(parts), request=request)
        whole.elapsed = response.elapsed
        return whole


def masked(text: str, key: str) -> str:
    """Replace the key, which a server may echo, and whatever looks like one."""
    text = text.replace(key, "***") if len(key) > 4 else text
    return re.sub(r"\b(sk-|hf_|Bearer\s+)[\w.-]{8,}", r"\1***", text)
