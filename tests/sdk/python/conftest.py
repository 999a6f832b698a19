"""Where the tests find the running gateway. tests/sdk/run.sh starts everything and sets these:

HOOSH_URL         base of the gateway, without /v1
HOOSH_TOKEN       a bearer token it accepts
HOOSH_LLAMA_URL   the real llama-server behind it that serves the chat model: its /slots tell what really runs. Not set
                  where tests marked "llama" are left out
HOOSH_CHAT_MODEL  smollm2-135m unless set, served by the provider named "chat"
HOOSH_EMBED_MODEL all-minilm unless set, served by the provider named "embed"
HOOSH_EMBED_URL   HOOSH_URL unless set: straight against llama-server (run.sh --direct) embeddings have a server of their own
"""

import json
import os
import time
import urllib.request

import openai
import pytest

CHAT_MODEL = os.environ.get("HOOSH_CHAT_MODEL", "smollm2-135m")
EMBED_MODEL = os.environ.get("HOOSH_EMBED_MODEL", "all-minilm")


def required(name):
    if name not in os.environ:
        pytest.exit(f"{name} is not set; run these tests by tests/sdk/run.sh", returncode=2)
    return os.environ[name].rstrip("/")


URL = required("HOOSH_URL")
TOKEN = required("HOOSH_TOKEN")
LLAMA_URL = os.environ.get("HOOSH_LLAMA_URL")
EMBED_URL = os.environ.get("HOOSH_EMBED_URL", URL).rstrip("/")


def options(url, **changes):
    # No retries: what the SDK would hide by trying again is what these tests look for.
    return {"base_url": f"{url}/v1", "api_key": TOKEN, "timeout": 60, "max_retries": 0, **changes}


@pytest.fixture(scope="session")
def client():
    with openai.OpenAI(**options(URL)) as client:
        yield client


@pytest.fixture(scope="session")
def embedder():
    with openai.OpenAI(**options(EMBED_URL)) as client:
        yield client


def busy_slots():
    """Which slots of the real llama-server are at work right now."""
    with urllib.request.urlopen(f"{LLAMA_URL}/slots", timeout=5) as reply:
        return [slot["id"] for slot in json.load(reply) if slot["is_processing"]]


def seconds_until_idle(bound):
    """How long llama-server goes on working; fails when that is longer than `bound` seconds."""
    start = time.monotonic()
    while busy := busy_slots():
        assert time.monotonic() - start < bound, f"slots {busy} still work after {bound} s"
        time.sleep(0.05)
    return time.monotonic() - start
