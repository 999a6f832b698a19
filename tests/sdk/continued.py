"""A real llama-server is killed in the middle of an answer, and another one goes on with it."""

import http.client
import json

from servers import Pair

BEFORE = 12  # pieces of text after which it is killed
BODY = json.dumps({
    "model": "m",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0,
    "max_tokens": 60,
    "messages": [{"role": "user", "content": "Write two long sentences about the sea."}],
})


def stream(port, on_piece=None):
    """The text in its pieces, the comments and the last events of a streamed answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", BODY, {"content-type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    pieces, comments, finish, usage, last = [], [], None, None, None
    for line in map(str.strip, map(bytes.decode, response)):
        if line.startswith(":"):
            comments.append(line)
        if not line.startswith("data: "):
            continue
        last = line
        if line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        assert "error" not in event, event
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            finish = choice.get("finish_reason") or finish
            if piece := choice["delta"].get("content"):
                pieces.append(piece)
                if on_piece:
                    on_piece(len(pieces))
    connection.close()
    return pieces, comments, finish, usage, last


def main():
    # `a` is asked first; what it wrote is read again by `b`.
    with Pair('strategy = "priority"', "continue_streams = true") as pair:
        whole = "".join(stream(pair.port)[0])

        def kill(count):
            if count == BEFORE:
                pair.kill("a")

        pieces, comments, finish, usage, last = stream(pair.port, kill)
    text, first = "".join(pieces), "".join(pieces[:BEFORE])
    print(f"whole:     {whole!r}\ncontinued: {text!r}\nby {comments}, {finish}, {usage}")
    assert [one for one in comments if "x-hoosh-continued: from=a/m; to=b/m" in one], comments
    assert last == "data: [DONE]" and finish in ("stop", "length"), (last, finish)
    assert whole.startswith(first) and len(text) > len(first) + 20, text
    assert text.count(first.strip()) == 1, "what was there is not written again"
    assert usage["completion_tokens"] <= 62, usage


main()
