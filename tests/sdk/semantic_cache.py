"""The cache of answers with a real embeddings model and a real chat model behind it, all-MiniLM-L6-v2 and SmolLM2.

The same question in other words has the same answer, other questions do not, and nobody is given another's; the file of
requests is asked beforehand; neither model is missed where it is not needed. tests/sdk/run.sh runs it.
"""

import http.client
import json
import os
import tempfile
import time

from servers import end, free_ports, hoosh, llama, wait_for

MODEL = "smollm2-135m"
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
CAPITAL = "What is the capital of France?"

# Asked, asked in other words, and whether they are the same. Those that are not are what vectors of MiniLM hardly tell
# apart (0.91 to 0.99 alike), or what it would be worst to confuse.
PAIRS = [
    ("How do I reset my password?", "How can I reset my password?", True),
    ("How do I reset my password?", "What is the way to reset my password?", True),
    ("How many people live in Berlin?", "How many people are living in Berlin?", True),
    ("How do I reset my password?", "How do I change my password?", False),
    ("How do I enable the firewall?", "How do I disable the firewall?", False),
    ("Should I buy the stock?", "Should I sell the stock?", False),
    ("Is aspirin safe for children?", "Is aspirin not safe for children?", False),
    ("Did the dog bite the man?", "Did the man bite the dog?", False),
    ("Convert 5 miles to kilometres", "Convert 5 kilometres to miles", False),
    ("What is 17 times 23?", "What is 17 times 24?", False),
]


def asking(text, **fields):
    return {"model": MODEL, "temperature": 0, "max_tokens": 12, "messages": [{"role": "user", "content": text}], **fields}


class Caller:
    """One of the gateway's callers."""

    def __init__(self, port, token):
        self.port, self.token = port, token

    def call(self, method, path, body=None):
        """Status, headers and text of an answer, and the seconds it took."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        start = time.monotonic()
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode(), time.monotonic() - start
        finally:
            connection.close()

    def ask(self, text, path=OPENAI, **fields):
        """What the cache did, and the answer."""
        status, headers, answer, _ = self.call("POST", path, asking(text, **fields))
        assert status == 200, (status, answer)
        return headers["x-hoosh-cache"], answer

    def stats(self):
        return json.loads(self.call("GET", "/v1/cache/stats")[2])


def is_semantic(cache):
    return cache.startswith("semantic ") and 0.95 <= float(cache.removeprefix("semantic ")) <= 1


def content(answer):
    return json.loads(answer)["choices"][0]["message"]["content"]


def streamed(answer):
    events = [line.removeprefix("data: ") for line in answer.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", answer
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def warmed(ada, eve):
    """Both find the answer that nobody has asked for, whole or streamed, by its words or by its meaning."""
    deadline = time.monotonic() + 60
    while ada.stats()["entries"] < 2:
        assert time.monotonic() < deadline, ada.stats()
        time.sleep(0.1)
    for caller in (ada, eve):
        cache, answer = caller.ask(CAPITAL)
        assert cache == "hit" and "Paris" in content(answer), (cache, answer)
        cache, again = caller.ask("What's the capital of France?")
        assert is_semantic(cache) and again == answer, (cache, again)
        cache, stream = caller.ask("What's the capital of France?", stream=True)
        assert is_semantic(cache) and streamed(stream) == content(answer), (cache, stream)
    assert ada.stats()["misses"] == 2, ada.stats()


def told_apart(ada):
    for first, other, is_same in PAIRS:
        # A prompt of its own for each pair, so that none finds another's.
        system = {"role": "system", "content": f"You are brief. Pair: {first} {other}"}
        cache, answer = ada.ask(first, messages=[system, {"role": "user", "content": first}])
        assert cache == "miss", (first, cache)
        cache, again = ada.ask(other, messages=[system, {"role": "user", "content": other}])
        print(f"  {cache:14}{first} / {other}")
        assert is_semantic(cache) == is_same, (first, other, cache)
        assert not is_same or again == answer, (answer, again)


def kept_apart(ada, eve):
    """What one has asked is not found by another, nor where anything else of the request is not the same."""
    first, other = "How many people live in Berlin?", "How many people are living in Berlin?"
    assert ada.ask(first)[0] == "miss"
    assert eve.ask(other)[0] == "miss", "ada's answer"
    assert is_semantic(ada.ask(other)[0])
    for fields in ({"max_tokens": 8}, {"top_p": 0.5}, {"user": "u"}, {"model": "other"}):
        assert ada.ask(other, **fields)[0] == "miss", fields
    assert ada.ask(other, path=ANTHROPIC)[0] == "miss"
    assert is_semantic(ada.ask(first, path=ANTHROPIC)[0]), "in its own dialect it is found"


def quicker(ada):
    question = "Please explain in a few sentences why the sky is blue during the day."
    *_, asked = ada.call("POST", OPENAI, asking(question, max_tokens=80))
    _, headers, _, found = ada.call("POST", OPENAI, asking(question.replace("Please explain", "Explain"), max_tokens=80))
    assert is_semantic(headers["x-hoosh-cache"]), headers["x-hoosh-cache"]
    print(f"  asked {asked * 1000:.0f} ms, found by meaning {found * 1000:.0f} ms")
    assert found < asked, (asked, found)


def main():
    chat_port, embed_port, port = free_ports(3)

    def chats():
        template = os.environ["LLAMA_CHAT_TEMPLATE"]
        return llama(chat_port, "LLAMA_CHAT_MODEL", "--alias", MODEL, "--chat-template", template, "-np", "2")

    def embeds():
        return llama(embed_port, "LLAMA_EMBED_MODEL", "--alias", "all-minilm", "--embedding", "-np", "2", "-c", "1024")

    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "warm.jsonl"), "w") as warm:
            print(json.dumps({"caller": "*", "body": asking(CAPITAL)}), file=warm)
        config = os.path.join(folder, "hoosh.toml")
        with open(config, "w") as file:
            file.write(f"""
[server]
port = {port}
[auth]
tokens = ["ada", "eve"]
[routing]
rest_secs = 1
[aliases]
other = "{MODEL}"
[cache]
enabled = true
semantic_model = "all-minilm"
warm = "warm.jsonl"
[[providers]]
type = "llamacpp"
name = "chat"
base_url = "http://127.0.0.1:{chat_port}"
models = ["{MODEL}"]
[[providers]]
type = "llamacpp"
name = "embed"
base_url = "http://127.0.0.1:{embed_port}"
models = ["all-minilm"]
""")
        servers = {"chat": chats(), "embed": embeds()}
        try:
            wait_for(chat_port, "/health")
            wait_for(embed_port, "/health")
            servers["hoosh"] = hoosh(config)
            wait_for(port, "/v1/health")
            ada, eve = Caller(port, "ada"), Caller(port, "eve")
            warmed(ada, eve)
            told_apart(ada)
            kept_apart(ada, eve)
            quicker(ada)
            assert ada.stats()["embeddings_failed"] == 0, ada.stats()

            # Without the embeddings model a question is asked as without that cache; once it is back it is used.
            end(servers["embed"])
            assert ada.ask("What is the capital of France, please?")[0] == "miss"
            assert ada.ask(CAPITAL)[0] == "hit"
            assert ada.stats()["embeddings_failed"] == 1, ada.stats()
            servers["embed"] = embeds()
            wait_for(embed_port, "/health")
            deadline = time.monotonic() + 30
            # With spaces it is another question each time, and means the same.
            while not is_semantic(ada.ask("What's the capital of France?" + " " * ada.stats()["misses"])[0]):
                assert time.monotonic() < deadline, ada.stats()
                time.sleep(0.5)

            # Without the chat model what is known is still answered.
            end(servers["chat"])
            cache, answer = ada.ask("What's the capital of France?")
            assert is_semantic(cache) and "Paris" in content(answer), (cache, answer)
            status, *_ = ada.call("POST", OPENAI, asking("Who wrote Hamlet?"))
            assert status in (502, 503), status
            stats = ada.stats()
        finally:
            end(*servers.values())
    print("  " + ", ".join(f"{stats[name]} {name}" for name in ("hits", "semantic_hits", "misses", "embeddings_failed")))


main()
