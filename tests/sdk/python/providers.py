"""The stand-ins behind the gateway, one for each dialect that a provider may speak, and what they say: see standin/base.py.

Straight against a stand-in (run.sh --direct) HOOSH_DIRECT is set, HOOSH_STANDIN_<DIALECT> is its address, and each SDK is
only tried with the stand-in of its own dialect.
"""

import base64
import json
import os
import pathlib
import types

import pytest

MODELS = {
    "anthropic": "claude-standin-4-5",
    "gemini": "gemini-3-standin",
    "ollama": "ollama-standin",
    "openai": "gpt-standin",
}
EMBEDDING_MODELS = {**MODELS, "gemini": "gemini-embedding-001"}
DIRECT = bool(os.environ.get("HOOSH_DIRECT"))

TEXT = "Hello from the model: häß 日本 😀."
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PNG_BYTES = base64.b64decode(PNG)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ADA = {"name": "Ada", "age": 36}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STEP = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

# What the model answers in the end, and with how many calls in each turn before.
TASKS = {
    "weather": ([1], "It is 21 degrees in Paris."),
    "both cities": ([2], "Paris: 21 degrees, Rome: 30 degrees."),
    "three steps": ([1, 1, 1], "Done: R1 R2 R3."),
}
every_task = pytest.mark.parametrize("task", TASKS)
whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

_STANDIN = pathlib.Path(__file__).parents[1] / "standin"
_USAGE = json.loads((_STANDIN / "usage.json").read_text())


def url_of(dialect):
    """Where an SDK of `dialect` finds its server."""
    return os.environ[f"HOOSH_STANDIN_{dialect.upper()}" if DIRECT else "HOOSH_URL"].rstrip("/")


def tried_with(dialect):
    """The dialects of the providers that an SDK of `dialect` is tried with."""
    return [dialect] if DIRECT else list(MODELS)


def every_provider(dialect, models=MODELS):
    names = tried_with(dialect)
    return pytest.mark.parametrize("model", [models[name] for name in names], ids=names)


def every_error(dialect, classes):
    """Models that answer with a status, and the class of the error that the SDK of `dialect` makes of it."""
    prefix = {"anthropic": "claude", "gemini": "gemini-3", "ollama": "ollama", "openai": "gpt"}
    cases = [
        pytest.param(f"{prefix[name]}-error-{status}", status, error, id=f"{name}-{status}")
        for name in tried_with(dialect)
        for status, error in classes.items()
    ]
    return pytest.mark.parametrize("model, status, error", cases)


def usage_of(model):
    """Tokens of every answer of `model`; `cached` and `written` are part of `prompt`, `reasoning` of `answer`."""
    name = next(name for name, own in MODELS.items() if own == model)
    return types.SimpleNamespace(**_USAGE[name])


def run_tool(name, arguments):
    """What the tools of these tests give."""
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if name == "step":
        return f"R{arguments['n']}"
    return {"Paris": "21 degrees", "Rome": "30 degrees"}[arguments["city"]]
