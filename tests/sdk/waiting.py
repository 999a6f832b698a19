"""The official SDKs, as they are, while their streams wait in line before a real llama-server that answers one at a time."""

import http.client
import json
import threading
import time

import anthropic
import openai
from servers import Pair

QUESTION = [{"role": "user", "content": "Write one sentence about the sea."}]
CALLERS = 6


def chat(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    stream = client.chat.completions.create(model="m", messages=QUESTION, max_tokens=40, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def responses(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    events = list(client.responses.create(model="m", input=QUESTION, max_output_tokens=40, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete"), events[-1]
    return events[-1].response.output_text


def messages(url):
    client = anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0)
    with client.messages.stream(model="m", messages=QUESTION, max_tokens=40) as stream:
        return "".join(stream.text_stream)


def waiting(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/v1/queue/status")
    queues = json.load(connection.getresponse())["queues"]
    return sum(sum(queue["waiting"].values()) for queue in queues)


def comments(port):
    """What a client without an SDK is told, once others are in line."""
    while not waiting(port):
        time.sleep(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"model": "m", "messages": QUESTION, "max_tokens": 5, "stream": True})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    return [line for line in connection.getresponse().read().decode().splitlines() if line.startswith(":")]


def main():
    texts, told = {}, []
    with Pair('waiting_comment_secs = 0.1\nstrategy = "priority"', "max_concurrent = 1") as pair:
        url = f"http://127.0.0.1:{pair.port}"

        def ask(index):
            kind = [chat, responses, messages][index % 3]
            texts[index, kind.__name__] = kind(url)

        threads = [threading.Thread(target=ask, args=[index]) for index in range(CALLERS)]
        threads.append(threading.Thread(target=lambda: told.extend(comments(pair.port))))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print("\n".join(f"{who}: {text!r}" for who, text in texts.items()))
    print("\n".join(told))
    assert len(texts) == CALLERS and all(len(text) > 20 for text in texts.values()), texts
    assert any(": waiting in line, " in line for line in told), told
    assert any(line.startswith(": x-hoosh-queue-ms: ") for line in told), told


main()
