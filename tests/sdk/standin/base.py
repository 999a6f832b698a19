"""What the scripted model servers share: what the model says, and the HTTP around it.

Each of anthropic.py, gemini.py, ollama.py and openai.py beside this file acts like one vendor: what the vendor would refuse
is refused in the vendor's words, and what is answered follows from the request alone, so that one test can be run over
every provider. `python FILE PORT` serves on 127.0.0.1.

| the last prompt holds | the answer |
|---|---|
| "weather", with tools | a call of get_weather for Paris; then "It is RESULT in Paris." |
| "both cities", with tools | calls for Paris and Rome at once; then "Paris: RESULT, Rome: RESULT." |
| "three steps", with tools | calls of step with n = 1, 2, 3 in turn; then "Done: RESULT RESULT RESULT." |
| "think" | "42." |
| "cut" | half a text, then the connection breaks |
| an image | "I see an image of type image/png." |
| anything else | "Hello from the model: häß 日本 😀." |

Where thinking is asked for, "think" and every call are reasoned about first, and the reasoning is signed where the vendor
signs. Where a JSON schema or a tool of another name is asked for, the answer or the call holds
{"name":"Ada","age":36}. How many tokens that takes is in usage.json: `cached` and `written` (to the cache) are part of
`prompt`, `reasoning` of `answer`. A model named *error-STATUS answers with that status, 429 with Retry-After: 7.

A request that was refused is printed with what was wrong.
"""

import base64
import hashlib
import itertools
import json
import pathlib
import re
import sys
import traceback
import types
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "Hello from the model: häß 日本 😀."
PERSON = {"name": "Ada", "age": 36}
OWN_TOOLS = ("get_weather", "step")
VECTOR = [0.6, 0.8, 0.0]

NUMBERS = itertools.count(1)


def usage_of(vendor):
    return types.SimpleNamespace(**json.loads(pathlib.Path(__file__).with_name("usage.json").read_text())[vendor])


class Refused(Exception):
    def __init__(self, message, status=400, **details):
        super().__init__(message)
        self.status, self.details = status, details


def need(condition, message):
    if not condition:
        raise Refused(message)


def sign(vendor, text):
    """The signature that `vendor` puts on reasoning: nobody else can make it up."""
    return base64.b64encode(hashlib.sha256(f"{vendor}: {text}".encode()).digest()).decode()


def media_type(data):
    """The type of the image that `data` is in base64; None if it is neither."""
    try:
        head = base64.b64decode(data, validate=True)[:8]
    except ValueError:
        return None
    known = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
    return next((kind for magic, kind in known.items() if head.startswith(magic)), None)


class Turn:
    """One turn of a conversation in no vendor's words. `calls` and `results` are texts."""

    def __init__(self, role, text=""):
        self.role, self.text, self.image, self.calls, self.results = role, text, None, [], []


class Said:
    def __init__(self):
        self.reasoning, self.text, self.calls, self.cut = None, None, [], False


def script(turns, *, tools=(), thinks=False, schema=False, forced=None):
    """What the model says to the conversation `turns`. `tools` are the names of those it has, `forced` the one it must call."""
    said = Said()
    prompt = next((turn for turn in reversed(turns) if turn.role == "user" and turn.text), Turn("user"))
    since = turns[turns.index(prompt) :] if prompt in turns else []
    results = [result for turn in since for result in turn.results]
    text = prompt.text
    foreign = forced or next((name for name in tools if name not in OWN_TOOLS), None)
    if foreign and foreign not in OWN_TOOLS and not results:
        said.calls = [(foreign, PERSON)]
    elif "three steps" in text and tools:
        step = len(results) + 1
        if step <= 3:
            said.calls = [("step", {"n": step})]
        else:
            said.text = f"Done: {' '.join(results)}."
    elif "both cities" in text and tools:
        if results:
            need(len(results) == 2, f"two results were expected, not {len(results)}")
            said.text = f"Paris: {results[0]}, Rome: {results[1]}."
        else:
            said.calls = [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    elif "weather" in text and tools:
        if results:
            said.text = f"It is {results[0]} in Paris."
        else:
            said.calls = [("get_weather", {"city": "Paris"})]
    elif schema:
        said.text = json.dumps(PERSON, separators=(",", ":"))
    elif "think" in text:
        said.reasoning, said.text = "Let me think." if thinks else None, "42."
    elif "cut" in text:
        said.text, said.cut = "Half of", True
    elif prompt.image:
        said.text = f"I see an image of type {prompt.image}."
    else:
        said.text = TEXT
    if thinks and said.calls:
        said.reasoning = f"After {len(results)} results I need a tool."
    return said


def pieces(text):
    return [text[at : at + 7] for at in range(0, len(text), 7)]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Handler(BaseHTTPRequestHandler):
    """A vendor's server. `get` and `post` answer a path with `json` or a stream, or raise Refused."""

    protocol_version = "HTTP/1.1"
    content_type = "application/json"

    def get(self, path):
        raise NotImplementedError

    def post(self, path, body):
        raise NotImplementedError

    def error_body(self, status, message, details):
        """An error in the vendor's shape."""
        raise NotImplementedError

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            body = json.loads(data)
            need(isinstance(body, dict), "the body is no JSON object")
        except (ValueError, Refused) as error:
            self._refuse(Refused(f"could not parse the JSON body: {error}"), data)
        else:
            self._answer(body)

    def _answer(self, body):
        url = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(url.query))
        path = urllib.parse.unquote(url.path)
        if path == "/health":  # for run.sh
            return self.json({})
        try:
            self.get(path) if body is None else self.post(path, body)
        except Refused as refused:
            self._refuse(refused, body)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            # Not what the vendor's API has: it would say so, in words that do not matter here.
            traceback.print_exc()
            self._refuse(Refused(f"malformed request: {error!r}"), body)

    def _refuse(self, refused, asked):
        print(f"{self.command} {self.path} {refused.status}: {refused}\n  {asked!r}", file=sys.stderr, flush=True)
        body = self.error_body(refused.status, str(refused), refused.details)
        headers = {"retry-after": "7"} if refused.status == 429 else {}
        if "request_id" in body:
            headers["request-id"] = body["request_id"]
        self.json(body, refused.status, headers)

    def fail_if_asked(self, model):
        if error := re.search(r"error-(\d+)$", model):
            raise Refused(f"as asked: {error.group(1)}", int(error.group(1)))

    def json(self, value, status=200, headers={}):
        data = compact(value).encode()
        self.send_response(status)
        self.send_header("content-type", self.content_type)
        self.send_header("content-length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def begin(self, content_type):
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def write(self, text):
        """Sends `text` in two chunks, cut within its first character that has several bytes."""
        data = text.encode()
        cut = next((at + 1 for at, byte in enumerate(data) if byte >= 0x80), len(data) // 2)
        self.chunk(data[:cut])
        self.chunk(data[cut:])

    def event(self, value, name=None):
        data = value if isinstance(value, str) else compact(value)
        self.write((f"event: {name}\n" if name else "") + f"data: {data}\n\n")

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def cut(self):
        """Breaks off: the body has no end."""
        self.close_connection = True


def serve(handler):
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
