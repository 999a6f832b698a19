"""The official OpenAI SDK, unmodified, against hoosh in front of a real llama-server.

The model has 135M parameters: its answers are only held to trivial facts, to what a grammar enforces, and to the tool
calls that its template makes reliable. Temperature is 0 wherever the text matters.
"""

import asyncio
import base64
import json
import struct
from typing import Literal

import openai
import pytest
from conftest import CHAT_MODEL, EMBED_MODEL, EMBED_URL, URL, busy_slots, options, seconds_until_idle
from pydantic import BaseModel

pytestmark = pytest.mark.llama

CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
# Keeps the model writing until `max_tokens`; llama.cpp's own field, so it also shows that unknown fields pass through.
ENDLESS = {"ignore_eos": True}


def chat(client, messages=CAPITAL, **parameters):
    parameters = {"model": CHAT_MODEL, "temperature": 0, "max_tokens": 32, **parameters}
    return client.chat.completions.create(messages=messages, **parameters)


def user(content):
    return [{"role": "user", "content": content}]


# --- models ---


@pytest.mark.hoosh
def test_models_of_all_providers_are_listed_and_can_be_retrieved(client):
    listed = {model.id: model for model in client.models.list()}
    assert {CHAT_MODEL, EMBED_MODEL} <= listed.keys()
    assert all(model.object == "model" for model in listed.values())
    assert client.models.retrieve(CHAT_MODEL).id == CHAT_MODEL


# --- chat ---


def test_chat_knows_a_fact_and_counts_its_tokens(client):
    completion = chat(client)
    (choice,) = completion.choices
    assert "Paris" in choice.message.content
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert completion.object == "chat.completion"
    assert completion.model == CHAT_MODEL
    usage = completion.usage
    assert usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 32
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_max_tokens_ends_with_length(client):
    completion = chat(client, user("Tell me a long story."), max_tokens=5)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 5


def test_n_gives_as_many_choices(client):
    completion = chat(client, user("Say hi."), n=2, max_tokens=5)
    assert sorted(choice.index for choice in completion.choices) == [0, 1]
    assert all(choice.message.content for choice in completion.choices)


def test_stop_cuts_the_answer(client):
    completion = chat(client, stop=["Paris"])
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content.strip() == "The capital of France is"


def test_logprobs_pass_through(client):
    (choice,) = chat(client, max_tokens=4, logprobs=True, top_logprobs=2).choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


# --- streams ---


def test_stream_says_the_same_as_the_whole_answer(client):
    chunks = list(chat(client, stream=True))
    assert all(len(chunk.choices) == 1 for chunk in chunks), "a chunk without choices that nobody asked for"
    assert all(chunk.usage is None for chunk in chunks), "usage that nobody asked for"
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert sum(map(bool, deltas)) > 3, "the answer came in one piece"
    assert "".join(deltas) == chat(client).choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "stop" and not any(reasons[:-1])


def test_stream_ends_with_usage_when_asked(client):
    *chunks, last = chat(client, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.prompt_tokens > 5 and last.usage.completion_tokens > 0
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage.completion_tokens == chat(client).usage.completion_tokens


def test_closing_a_stream_stops_the_model(client):
    seconds_until_idle(bound=30)  # what an earlier test left behind
    # 3,000 tokens take this model 20 s at its best: it cannot be idle in time because it was done.
    stream = chat(client, user("Count."), stream=True, max_tokens=3000, extra_body=ENDLESS)
    for _ in range(5):
        next(stream)
    assert busy_slots(), "the stream has begun, so a slot must be at work"
    stream.close()
    seconds_until_idle(bound=2.5)  # 1 s, and the rest for a machine with other things to do


# --- tools ---


def tool(name, description, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("get_weather", "Get the current weather in a city", city={"type": "string", "description": "City name"}),
    tool("add", "Add two numbers", a={"type": "integer"}, b={"type": "integer"}),
]
CALLS = [
    ("What is the weather in Paris?", "get_weather", {"city": "Paris"}),
    ("Add 2 and 3", "add", {"a": 2, "b": 3}),
]


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize(("question", "name", "arguments"), CALLS)
def test_a_tool_is_called(client, question, name, arguments, choice):
    (answer,) = chat(client, user(question), tools=TOOLS, tool_choice=choice, max_tokens=80).choices
    assert answer.finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls
    assert call.id and call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)


@pytest.mark.parametrize(("question", "name", "arguments"), CALLS)
def test_a_tool_is_called_in_a_stream(client, question, name, arguments):
    chunks = list(chat(client, user(question), tools=TOOLS, max_tokens=80, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert {part.index for part in parts} == {0}
    assert parts[0].id and parts[0].function.name == name
    assert all(part.id in (None, parts[0].id) for part in parts)
    assert json.loads("".join(part.function.arguments or "" for part in parts)) == arguments
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_sdk_gathers_a_streamed_tool_call(client):
    question, name, arguments = CALLS[0]
    parameters = {"model": CHAT_MODEL, "messages": user(question), "tools": TOOLS, "temperature": 0, "max_tokens": 80}
    with client.chat.completions.stream(**parameters) as stream:
        seen = [event.type for event in stream]
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert "tool_calls.function.arguments.delta" in seen and "tool_calls.function.arguments.done" in seen
    assert (call.function.name, json.loads(call.function.arguments)) == (name, arguments)


def test_a_tool_result_is_answered(client):
    question, name, arguments = CALLS[0]
    (answer,) = chat(client, user(question), tools=TOOLS, max_tokens=80).choices
    (call,) = answer.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 C, sunny"}
    completion = chat(client, [*user(question), answer.message.model_dump(exclude_none=True), result], tools=TOOLS)
    assert completion.choices[0].message.content or completion.choices[0].message.tool_calls


# --- structured output ---


class Zork(BaseModel):
    zork: Literal["alpha", "beta"]
    n: int


def test_parse_gives_a_pydantic_object(client):
    # Nobody answers this question so of his own accord: only an enforced schema does.
    completion = client.chat.completions.parse(
        model=CHAT_MODEL, messages=user("Tell me about whales."), response_format=Zork, temperature=0, max_tokens=120
    )
    parsed = completion.choices[0].message.parsed
    assert isinstance(parsed, Zork) and parsed.zork in ("alpha", "beta")


def test_json_schema_is_enforced_in_a_stream(client):
    schema = {"name": "zork", "strict": True, "schema": {**Zork.model_json_schema(), "additionalProperties": False}}
    chunks = chat(
        client,
        user("Tell me about whales."),
        response_format={"type": "json_schema", "json_schema": schema},
        stream=True,
        max_tokens=120,
    )
    Zork.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in chunks), strict=True)


# --- legacy completions ---


def complete(client, **parameters):
    parameters = {"prompt": "The capital of France is", "temperature": 0, "max_tokens": 8, **parameters}
    return client.completions.create(model=CHAT_MODEL, **parameters)


def test_legacy_completion(client):
    completion = complete(client)
    (choice,) = completion.choices
    assert completion.object == "text_completion"
    assert "Paris" in choice.text and choice.finish_reason == "length"
    assert completion.usage.completion_tokens == 8


def test_legacy_completion_streams(client):
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    # llama.cpp sends the usage with the last choice here, OpenAI in a chunk of its own: both are a fair end.
    assert chunks[-1].usage.completion_tokens == 8
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert len(choices) > 3 and choices[-1].finish_reason == "length"
    assert "".join(choice.text for choice in choices) == complete(client).choices[0].text


# --- embeddings ---


def embed(client, texts, **parameters):
    return client.embeddings.create(model=EMBED_MODEL, input=texts, **parameters)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def test_embedding_as_floats_and_as_base64_are_the_same(embedder):
    text = "A dog runs in the park"
    floats = embed(embedder, text, encoding_format="float").data[0].embedding
    assert len(floats) == 384
    assert floats[:3] == pytest.approx([0.0627, -0.0358, 0.0587], abs=2e-3)  # a forward pass of these weights in fp32
    by_default = embed(embedder, text).data[0].embedding  # the SDK asks for base64 and decodes it
    assert by_default == pytest.approx(floats, abs=1e-5)
    encoded = embed(embedder, text, encoding_format="base64").data[0].embedding
    assert list(struct.unpack("<384f", base64.b64decode(encoded))) == pytest.approx(floats, abs=1e-5)


def test_a_batch_of_embeddings_keeps_its_order_and_its_meaning(embedder):
    texts = ["A dog runs in the park", "A puppy plays outside", "Stock prices fell today"]
    reply = embed(embedder, texts)
    assert [item.index for item in reply.data] == [0, 1, 2]
    assert reply.usage.prompt_tokens > 10 and reply.usage.total_tokens == reply.usage.prompt_tokens
    dog, puppy, stocks = (item.embedding for item in reply.data)
    assert cosine(dog, puppy) == pytest.approx(0.453, abs=0.02)
    assert cosine(dog, stocks) == pytest.approx(0.022, abs=0.02)
    alone = embed(embedder, texts[2]).data[0].embedding
    assert cosine(stocks, alone) > 0.999


# --- many at once ---


def test_eight_calls_at_once(client):
    async def all_at_once():
        async with openai.AsyncOpenAI(**options(URL)) as many:
            return await asyncio.gather(*(chat(many, user(f"Say the number {i}."), max_tokens=8) for i in range(8)))

    completions = asyncio.run(all_at_once())
    assert all(completion.choices[0].message.content for completion in completions)
    assert len({completion.id for completion in completions}) == 8


def test_answers_to_calls_at_once_are_not_mixed_up(embedder):
    texts = [f"{subject} and their habits" for subject in ("Cats", "Stars", "Rivers", "Taxes", "Poems", "Engines", "Bees", "Wars")]

    async def all_at_once():
        async with openai.AsyncOpenAI(**options(EMBED_URL)) as many:
            return await asyncio.gather(*(embed(many, text) for text in texts))

    for item, reply in zip(embed(embedder, texts).data, asyncio.run(all_at_once()), strict=True):
        assert cosine(item.embedding, reply.data[0].embedding) > 0.999


# --- what goes wrong, as the SDK's own error classes ---


@pytest.mark.hoosh
def test_a_wrong_key_is_an_authentication_error(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        chat(client.with_options(api_key="not-the-token"))
    assert caught.value.status_code == 401
    assert caught.value.code == "invalid_api_key"
    assert "not-the-token" not in caught.value.response.text
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="not-the-token").models.list()


@pytest.mark.hoosh
def test_an_unknown_model_is_not_found_and_a_near_name_is_offered(client):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="no-such-thing-at-all")
    assert caught.value.code == "model_not_found"
    assert "no-such-thing-at-all" in caught.value.message
    assert CHAT_MODEL not in caught.value.message
    # One letter short, so that it fits none of the patterns of the providers.
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model=CHAT_MODEL.replace("ll", "l", 1))
    assert CHAT_MODEL in caught.value.message


def test_messages_of_the_wrong_type_are_a_bad_request_that_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages="hello")
    assert "messages" in caught.value.message


@pytest.mark.hoosh
def test_a_wrong_type_deep_inside_is_named_with_its_path(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": 42}]
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages)
    assert "messages[1].content" in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_a_body_that_is_not_json_is_a_bad_request(client):
    headers = {"Content-Type": "application/json"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", cast_to=object, content=b'{"model": ', options={"headers": headers})
    assert caught.value.body["message"]


def test_a_client_that_gives_up_leaves_the_gateway_well(client):
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.001))
    with pytest.raises(openai.APITimeoutError):  # in the midst of an answer that takes seconds
        chat(client.with_options(timeout=0.5), user("Count."), max_tokens=300, extra_body=ENDLESS)
    assert "Paris" in chat(client).choices[0].message.content


# --- what hoosh adds ---


@pytest.mark.hoosh
def test_headers_say_who_answered(client):
    seen = set()
    for stream in (False, True):
        raw = chat_raw(client, stream=stream)
        assert raw.headers["x-hoosh-provider"] == "chat"
        assert raw.headers["x-hoosh-attempts"] == "1"
        seen.add(raw.headers["x-request-id"])
    assert len(seen) == 2 and all(seen)
    raw = client.embeddings.with_raw_response.create(model=EMBED_MODEL, input="hello")
    assert raw.headers["x-hoosh-provider"] == "embed"


def chat_raw(client, *, stream):
    raw = client.chat.completions.with_raw_response.create(
        model=CHAT_MODEL, messages=CAPITAL, max_tokens=4, stream=stream
    )
    parsed = raw.parse()
    if stream:
        assert list(parsed)
    else:
        assert parsed.choices and parsed._request_id == raw.headers["x-request-id"]
    return raw


@pytest.mark.hoosh
def test_groqs_prefix_is_an_alias(client):
    with openai.OpenAI(**options(URL, base_url=f"{URL}/openai/v1")) as aliased:
        assert "Paris" in chat(aliased).choices[0].message.content
        assert CHAT_MODEL in {model.id for model in aliased.models.list()}
