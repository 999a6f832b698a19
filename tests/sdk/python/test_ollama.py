"""The official Ollama client, unmodified, over providers of every dialect, and over the real llama-server."""

import httpx
import ollama
import pytest
from conftest import CHAT_MODEL, EMBED_MODEL, TOKEN
from providers import (
    ADA,
    CITY,
    EMBEDDING_MODELS,
    MODELS,
    PNG,
    SCHEMA,
    STEP,
    TASKS,
    TEXT,
    every_error,
    every_provider,
    every_task,
    run_tool,
    url_of,
    usage_of,
    whole_and_streamed,
)
from pydantic import BaseModel

every = every_provider("ollama")
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "step", "description": "Steps", "parameters": STEP}},
]


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client():
    return ollama.Client(host=url_of("ollama"), headers={"authorization": f"Bearer {TOKEN}"}, timeout=60)


def user(text, **more):
    return [{"role": "user", "content": text, **more}]


def chat(client, streamed=False, **asked):
    """Text, thinking and calls of the answer, and its last line."""
    replies = list(client.chat(**asked, stream=True)) if streamed else [client.chat(**asked)]
    text = "".join(reply.message.content or "" for reply in replies)
    thinking = "".join(reply.message.thinking or "" for reply in replies)
    calls = [call for reply in replies for call in reply.message.tool_calls or []]
    assert [reply.done for reply in replies] == [False] * (len(replies) - 1) + [True]
    return text, thinking, calls, replies[-1]


@every
@whole_and_streamed
def test_text_and_usage(client, model, streamed):
    messages = [{"role": "system", "content": "Be brief."}, *user("hello")]
    text, thinking, calls, last = chat(client, streamed, model=model, messages=messages)
    assert (text, thinking, calls, last.done_reason, last.model) == (TEXT, "", [], "stop", model)
    tokens = usage_of(model)
    assert (last.prompt_eval_count, last.eval_count) == (tokens.prompt, tokens.answer)


@every
@whole_and_streamed
def test_generate(client, model, streamed):
    asked = {"model": model, "prompt": "hello", "system": "Be brief."}
    replies = list(client.generate(**asked, stream=True)) if streamed else [client.generate(**asked)]
    assert "".join(reply.response for reply in replies) == TEXT
    tokens = usage_of(model)
    assert (replies[-1].prompt_eval_count, replies[-1].eval_count) == (tokens.prompt, tokens.answer)
    image = client.generate(model=model, prompt="what is this?", images=[PNG])
    assert image.response == "I see an image of type image/png."


@every
@whole_and_streamed
@every_task
@pytest.mark.parametrize("think", [None, "high"], ids=["plain", "thinking"])
def test_agent_loop(client, model, streamed, task, think):
    turns, answer = TASKS[task]
    messages = user(f"Please: {task}")
    asked = {"model": model, "messages": messages, "tools": TOOLS, "think": think}
    for expected in turns:
        text, thinking, calls, last = chat(client, streamed, **asked)
        assert len(calls) == expected
        messages.append({"role": "assistant", "content": text, "thinking": thinking, "tool_calls": calls})
        for call in calls:
            result = run_tool(call.function.name, dict(call.function.arguments))
            messages.append({"role": "tool", "tool_name": call.function.name, "content": result})
    assert chat(client, streamed, **asked)[0] == answer


@every
@whole_and_streamed
def test_thinking(client, model, streamed):
    text, thinking, _, _ = chat(client, streamed, model=model, messages=user("think"), think="high")
    assert (thinking, text) == ("Let me think.", "42.")


@every
def test_structured_output(client, model):
    text, _, _, _ = chat(client, model=model, messages=user("who?"), format=Person.model_json_schema())
    assert Person.model_validate_json(text) == Person(**ADA)
    assert client.generate(model=model, prompt="who?", format=SCHEMA).response == '{"name":"Ada","age":36}'


@every
def test_vision(client, model):
    text, _, _, _ = chat(client, model=model, messages=user("what is this?", images=[PNG]))
    assert text == "I see an image of type image/png."


@every_error("ollama", {status: status for status in (400, 404, 429)})
@whole_and_streamed
def test_errors(client, model, status, error, streamed):
    with pytest.raises(ollama.ResponseError) as raised:
        chat(client, streamed, model=model, messages=user("x"))
    assert raised.value.status_code == status
    if status == 400:
        assert "as asked: 400" in raised.value.error


@every_error("ollama", {500: None, 529: None})
def test_a_vendors_failure_is_a_servers_error(client, model, status, error):
    with pytest.raises(ollama.ResponseError) as raised:
        chat(client, model=model, messages=user("x"))
    assert raised.value.status_code >= 500


@pytest.mark.hoosh
def test_a_wrong_key_and_an_unknown_model(client):
    wrong = ollama.Client(host=url_of("ollama"), headers={"authorization": "Bearer not-the-token"})
    with pytest.raises(ollama.ResponseError) as raised:
        wrong.chat(model=MODELS["gemini"], messages=user("x"))
    assert raised.value.status_code == 401
    with pytest.raises(ollama.ResponseError) as raised:
        client.chat(model="no-such-thing-at-all", messages=user("x"))
    assert raised.value.status_code == 404 and "no-such-thing-at-all" in raised.value.error


@every
def test_a_stream_that_breaks_off_raises(client, model):
    texts = []
    # Straight from the server the client lets the error of its HTTP library through.
    with pytest.raises((ollama.ResponseError, httpx.RemoteProtocolError)):
        for line in client.chat(model=model, messages=user("cut"), stream=True):
            texts.append(line.message.content)
    assert "".join(texts) == "Half of"


def test_listings(client):
    model = MODELS["ollama"]
    assert model in [listed.model for listed in client.list().models]
    assert "completion" in client.show(model).capabilities
    client.ps()
    with pytest.raises(ollama.ResponseError) as raised:
        client.show("nobody")
    assert raised.value.status_code == 404


@pytest.mark.hoosh
def test_models_of_all_providers_are_listed_and_shown(client):
    assert set(MODELS.values()) <= {listed.model for listed in client.list().models}
    for model in MODELS.values():
        assert "completion" in client.show(model).capabilities


def test_a_model_is_loaded_by_asking_nothing(client):
    loaded = client.generate(model=MODELS["ollama"])
    assert (loaded.done, loaded.done_reason) == (True, "load")


@every_provider("ollama", EMBEDDING_MODELS)
@pytest.mark.parametrize("texts", ["a dog", ["a dog", "a cat"]], ids=["one", "many"])
def test_embeddings(client, model, texts):
    if model == MODELS["anthropic"]:
        with pytest.raises(ollama.ResponseError):
            client.embed(model=model, input=texts)
        return
    vectors = client.embed(model=model, input=texts).embeddings
    assert [list(vector) for vector in vectors] == [pytest.approx([0.6, 0.8, 0.0])] * (len(texts) if isinstance(texts, list) else 1)


@pytest.mark.llama
@pytest.mark.hoosh
def test_the_real_llama_server(client):
    reply = client.chat(
        model=CHAT_MODEL, messages=user("What is the capital of France?"), options={"num_predict": 16, "temperature": 0}
    )
    assert "Paris" in reply.message.content and 0 < reply.eval_count <= 16
    vectors = client.embed(model=EMBED_MODEL, input=["a dog", "a cat"]).embeddings
    assert [len(vector) for vector in vectors] == [384, 384]
