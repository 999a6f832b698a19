"""The official OpenAI SDK, unmodified, over providers of every dialect: chat, completions and what else has no dialect of its
own. For Responses see test_openai_responses.py, for the real llama-server test_openai.py."""

import json

import openai
import pytest
from conftest import options
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

every = every_provider("openai")
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": CITY}}
STEPS = {"type": "function", "function": {"name": "step", "description": "Steps", "parameters": STEP}}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(**options(url_of("openai"))) as client:
        yield client


def user(content):
    return [{"role": "user", "content": content}]


def chat(client, streamed=False, **asked):
    """The choice that is answered, whole or gathered from a stream by the SDK."""
    if not streamed:
        return client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as stream:
        stream.until_done()
        return stream.get_final_completion().choices[0]


def check_usage(usage, model):
    tokens = usage_of(model)
    assert (usage.prompt_tokens, usage.completion_tokens) == (tokens.prompt, tokens.answer)
    assert usage.total_tokens == tokens.prompt + tokens.answer
    details = usage.prompt_tokens_details
    assert ((details.cached_tokens if details else None) or 0) == tokens.cached
    details = usage.completion_tokens_details
    assert ((details.reasoning_tokens if details else None) or 0) == tokens.reasoning


@every
def test_text_and_usage(client, model):
    reply = client.chat.completions.create(model=model, messages=[{"role": "system", "content": "Be brief."}, *user("hello")])
    (choice,) = reply.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (TEXT, "assistant", "stop")
    assert (reply.object, reply.model) == ("chat.completion", model)
    check_usage(reply.usage, model)


@every
def test_text_and_usage_of_a_stream(client, model):
    asked = {"model": model, "messages": user("hello"), "stream": True}
    *chunks, last = client.chat.completions.create(**asked, stream_options={"include_usage": True})
    assert last.choices == []
    check_usage(last.usage, model)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop" and len({chunk.id for chunk in chunks}) == 1
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) > 3, "the answer came in one piece"
    assert all(chunk.choices and not chunk.usage for chunk in client.chat.completions.create(**asked))


@every
@whole_and_streamed
@every_task
@pytest.mark.parametrize("effort", [None, "high"], ids=["plain", "thinking"])
def test_agent_loop(client, model, streamed, task, effort):
    turns, answer = TASKS[task]
    messages = [{"role": "system", "content": "Use tools."}, *user(f"Please: {task}")]
    asked = {"model": model, "messages": messages, "tools": [WEATHER, STEPS]}
    if effort:
        asked["reasoning_effort"] = effort
    for expected in turns:
        choice = chat(client, streamed, **asked)
        calls = choice.message.tool_calls
        assert (choice.finish_reason, len(calls)) == ("tool_calls", expected)
        # The message goes back as it came, with whatever the vendor signed in it.
        messages.append(choice.message.model_dump(exclude_none=True))
        for call in calls:
            result = run_tool(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    choice = chat(client, streamed, **asked)
    assert (choice.message.content, choice.finish_reason) == (answer, "stop")


@every
@whole_and_streamed
def test_thinking(client, model, streamed):
    message = chat(client, streamed, model=model, messages=user("think"), reasoning_effort="low").message
    # Ollama's own word for it; the gateway's is DeepSeek's.
    reasoning = message.reasoning if model == MODELS["ollama"] else message.reasoning_content
    assert (reasoning, message.content) == ("Let me think.", "42.")


@every
@whole_and_streamed
def test_a_plain_client_that_drops_signatures_still_gets_through(client, model, streamed):
    """What most callers send back: id, name and arguments of the calls, and nothing else."""
    messages = user("Please: three steps")
    asked = {"model": model, "messages": messages, "tools": [WEATHER, STEPS], "reasoning_effort": "high"}
    for _ in range(3):
        (call,) = chat(client, streamed, **asked).message.tool_calls
        function = {"name": call.function.name, "arguments": call.function.arguments}
        messages.append({"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": function}]})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": run_tool(**function)})
    assert chat(client, streamed, **asked).message.content == "Done: R1 R2 R3."


@every
def test_a_conversation_may_repeat_roles_and_hold_empty_texts(client, model):
    messages = [
        {"role": "system", "content": "Be brief."},
        *user("one"),
        *user("two"),
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": "three"},
        {"role": "system", "content": "Be kind."},
        *user("hello"),
    ]
    assert chat(client, model=model, messages=messages).message.content == TEXT
    begun = [{"role": "assistant", "content": "I begin."}, *user("hello")]
    assert chat(client, model=model, messages=begun).message.content == TEXT


@every
@whole_and_streamed
def test_parse_gives_a_pydantic_object(client, model, streamed):
    if streamed:
        with client.chat.completions.stream(model=model, messages=user("who?"), response_format=Person) as stream:
            parsed = stream.until_done().get_final_completion().choices[0].message.parsed
    else:
        reply = client.chat.completions.parse(model=model, messages=user("who?"), response_format=Person)
        parsed = reply.choices[0].message.parsed
    assert parsed == Person(**ADA)


@every
def test_a_forced_tool_is_called(client, model):
    tool = {"type": "function", "function": {"name": "person", "description": "A person", "parameters": SCHEMA}}
    choice = {"type": "function", "function": {"name": "person"}}
    (call,) = chat(client, model=model, messages=user("who?"), tools=[tool], tool_choice=choice).message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("person", ADA)


@every
def test_vision(client, model):
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    assert chat(client, model=model, messages=user(content)).message.content == "I see an image of type image/png."


ERRORS = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    529: openai.InternalServerError,
}


@every_error("openai", ERRORS)
@whole_and_streamed
def test_error_classes(client, model, status, error, streamed):
    with pytest.raises(error) as raised:
        chat(client, streamed, model=model, messages=user("x"))
    assert raised.value.body["message"]
    if status == 429:
        # A gateway that was told so a moment ago tells what is left of it.
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 7
    if status == 400:
        assert "as asked: 400" in raised.value.message


@every
def test_a_stream_that_breaks_off_raises(client, model):
    texts = []
    with pytest.raises(Exception) as raised:
        for chunk in client.chat.completions.create(model=model, messages=user("cut"), stream=True):
            texts.append(chunk.choices[0].delta.content or "")
    assert "".join(texts) == "Half of"
    # Straight from the vendor the SDK lets the error of its HTTP library through.
    assert isinstance(raised.value, openai.APIError) or "Error" in type(raised.value).__name__


@pytest.mark.hoosh
def test_what_is_lost_is_said(client):
    asked = {"model": MODELS["anthropic"], "messages": user("hello"), "seed": 7}
    raw = client.chat.completions.with_raw_response.create(**asked, logit_bias={"1": 2})
    assert raw.headers["x-hoosh-lossy"] == "logit_bias, seed"
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**asked, extra_headers={"x-hoosh-fidelity": "strict"})
    assert raised.value.code == "not_expressible" and "seed" in raised.value.message


@pytest.mark.hoosh
def test_models_of_every_provider_are_listed(client):
    listed = {model.id for model in client.models.list()}
    assert set(MODELS.values()) <= listed
    assert "gemini-3-standin-mini" in listed, "the second page of Google's list is missing"


@every
@whole_and_streamed
def test_legacy_completions(client, model, streamed):
    asked = {"model": model, "prompt": "hello"}
    if streamed:
        chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        usage = chunks[-1].usage
        text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    else:
        reply = client.completions.create(**asked)
        usage, text = reply.usage, reply.choices[0].text
    assert text == TEXT
    check_usage(usage, model)


@every_provider("openai", EMBEDDING_MODELS)
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client, model, encoding):
    asked = {"model": model, "input": ["a dog", "a cat"]}
    if encoding == "float":
        asked["encoding_format"] = "float"  # by default the SDK asks for base64 and decodes it
    if model == MODELS["anthropic"]:
        with pytest.raises(openai.APIStatusError) as raised:
            client.embeddings.create(**asked)
        assert raised.value.status_code < 500
        return
    data = client.embeddings.create(**asked).data
    assert [item.index for item in data] == [0, 1]
    assert all(item.embedding == pytest.approx([0.6, 0.8, 0.0]) for item in data)


def test_moderations(client):
    results = client.moderations.create(model=MODELS["openai"], input=["I will kill you", "hello"]).results
    assert [result.flagged for result in results] == [True, False]


@pytest.mark.hoosh
def test_rerank(client):
    body = {"model": "rerank-standin", "query": "a dog", "documents": ["the cat", "a dog barks", "a bird"], "top_n": 2}
    results = client.post("/rerank", body=body, cast_to=object)["results"]
    assert [result["index"] for result in results] == [1, 2]
    assert results[0]["relevance_score"] > results[1]["relevance_score"]
