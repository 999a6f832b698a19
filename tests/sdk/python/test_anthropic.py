"""The official Anthropic SDK, unmodified, over providers of every dialect, and over the real llama-server."""

import anthropic
import pytest
from conftest import CHAT_MODEL, TOKEN
from providers import (
    ADA,
    CITY,
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

WEATHER = {"name": "get_weather", "description": "Weather", "input_schema": CITY}
STEPS = {"name": "step", "description": "Steps", "input_schema": STEP}
THINKING = {"type": "enabled", "budget_tokens": 2000}
every = every_provider("anthropic")


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def claude():
    with anthropic.Anthropic(base_url=url_of("anthropic"), api_key=TOKEN, max_retries=0, timeout=60) as client:
        yield client


def user(content):
    return [{"role": "user", "content": content}]


def ask(claude, streamed=False, **asked):
    """The message that is answered, whole or gathered from a stream by the SDK."""
    asked = {"max_tokens": 4096, **asked}
    if not streamed:
        return claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        return stream.get_final_message()


def calls_of(reply):
    # Beside them may be what Gemini signed, as `redacted_thinking`.
    return [block for block in reply.content if block.type == "tool_use"]


def check_usage(usage, model):
    tokens = usage_of(model)
    assert (usage.cache_read_input_tokens or 0) == tokens.cached
    assert (usage.cache_creation_input_tokens or 0) == tokens.written
    assert usage.input_tokens == tokens.prompt - tokens.cached - tokens.written
    assert usage.output_tokens == tokens.answer


@every
@whole_and_streamed
def test_text_and_usage(claude, model, streamed):
    reply = ask(claude, streamed, model=model, system="Be brief.", messages=user("hello"))
    (block,) = reply.content
    assert (block.type, block.text) == ("text", TEXT)
    assert (reply.type, reply.role, reply.stop_reason) == ("message", "assistant", "end_turn")
    check_usage(reply.usage, model)


@every
def test_events_of_a_stream(claude, model):
    with claude.messages.create(model=model, max_tokens=99, messages=user("hello"), stream=True) as stream:
        events = [event for event in stream if event.type != "ping"]
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) > 7, "the answer came in one piece"
    assert events[0].message.content == []


@every
@whole_and_streamed
@every_task
@pytest.mark.parametrize("thinking", [{"type": "disabled"}, THINKING], ids=["plain", "thinking"])
def test_agent_loop(claude, model, streamed, task, thinking):
    turns, answer = TASKS[task]
    messages = user(f"Please: {task}")
    asked = {"model": model, "tools": [WEATHER, STEPS], "thinking": thinking, "messages": messages}
    for expected in turns:
        reply = ask(claude, streamed, **asked)
        calls = calls_of(reply)
        assert (reply.stop_reason, len(calls)) == ("tool_use", expected)
        if task == "three steps" and thinking is THINKING:
            assert reply.content[0].type == "thinking"
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": run_tool(call.name, call.input)} for call in calls
        ]
        # The turn goes back as it came, with the vendor's signatures.
        messages += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": results}]
    reply = ask(claude, streamed, **asked)
    assert (reply.content[-1].text, reply.stop_reason) == (answer, "end_turn")


@every
@whole_and_streamed
def test_thinking(claude, model, streamed):
    messages = user("think")
    reply = ask(claude, streamed, model=model, messages=messages, thinking=THINKING)
    assert [block.type for block in reply.content] == ["thinking", "text"]
    assert (reply.content[0].thinking, reply.content[1].text) == ("Let me think.", "42.")
    messages += [{"role": "assistant", "content": reply.content}, *user("hello again")]
    assert ask(claude, streamed, model=model, messages=messages, thinking=THINKING).content[-1].text == TEXT


@every
def test_a_signature_survives_another_providers_turn(claude, model):
    """A conversation that began at one provider goes on at another."""
    if model == MODELS["anthropic"]:
        start = next((own for name, own in MODELS.items() if name == "gemini"), None)
    else:
        start = MODELS["anthropic"]
    messages = user("Please: three steps")
    asked = {"tools": [WEATHER, STEPS], "thinking": THINKING, "messages": messages}
    for current in (start, model, start):
        reply = ask(claude, model=current, **asked)
        (call,) = calls_of(reply)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": run_tool(call.name, call.input)}
        messages += [{"role": "assistant", "content": reply.content}, *user([result])]
    assert ask(claude, model=model, **asked).content[-1].text == "Done: R1 R2 R3."


@every
@whole_and_streamed
def test_a_failed_tool_is_told(claude, model, streamed):
    messages = user("weather")
    asked = {"model": model, "tools": [WEATHER], "tool_choice": {"type": "any"}, "messages": messages}
    reply = ask(claude, streamed, **asked)
    (call,) = calls_of(reply)
    content = [{"type": "text", "text": "no data"}]
    result = {"type": "tool_result", "tool_use_id": call.id, "is_error": True, "content": content}
    messages += [{"role": "assistant", "content": reply.content}, *user([result])]
    assert "no data" in ask(claude, streamed, **{**asked, "tool_choice": {"type": "auto"}}).content[-1].text


@every
@whole_and_streamed
def test_structured_output(claude, model, streamed):
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    reply = ask(claude, streamed, model=model, messages=user("who?"), output_config=config)
    assert reply.content[0].text == '{"name":"Ada","age":36}'


@every
def test_parse_gives_a_pydantic_object(claude, model):
    parsed = claude.messages.parse(model=model, max_tokens=99, messages=user("who?"), output_format=Person)
    assert parsed.parsed_output == Person(**ADA)


@every
def test_a_forced_tool_is_called(claude, model):
    tool = {"name": "person", "description": "A person", "input_schema": SCHEMA}
    choice = {"type": "tool", "name": "person"}
    reply = ask(claude, model=model, messages=user("who?"), tools=[tool], tool_choice=choice)
    (call,) = calls_of(reply)
    assert (call.name, call.input, reply.stop_reason) == ("person", ADA, "tool_use")


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


@every
def test_vision(claude, model):
    reply = ask(claude, model=model, messages=user([IMAGE, {"type": "text", "text": "what is this?"}]))
    assert reply.content[0].text == "I see an image of type image/png."


@every
def test_an_image_in_a_tools_result(claude, model):
    messages = user("weather")
    reply = ask(claude, model=model, messages=messages, tools=[WEATHER])
    content = [{"type": "text", "text": "sunny"}, IMAGE]
    result = {"type": "tool_result", "tool_use_id": calls_of(reply)[0].id, "content": content}
    messages += [{"role": "assistant", "content": reply.content}, *user([result])]
    text = ask(claude, model=model, messages=messages, tools=[WEATHER]).content[-1].text
    # Where a result holds text only, the image comes behind it as the caller's.
    assert text in ("It is sunny in Paris.", "I see an image of type image/png.")


@every
def test_count_tokens(claude, model):
    counted = claude.messages.count_tokens(model=model, messages=user("hello " * 40)).input_tokens
    # Those who speak this dialect are asked; for the others the gateway estimates.
    if model == MODELS["anthropic"]:
        assert counted == usage_of(model).prompt
    else:
        assert 20 < counted < 120


# The gateway's own credentials and a vendor's overload are no fault of the caller's.
ERRORS = {
    400: anthropic.BadRequestError,
    404: anthropic.NotFoundError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    529: anthropic.InternalServerError,
}


@every_error("anthropic", ERRORS)
@whole_and_streamed
def test_error_classes(claude, model, status, error, streamed):
    with pytest.raises(error) as raised:
        ask(claude, streamed, model=model, messages=user("x"))
    assert raised.value.body["type"] == "error" and raised.value.body["error"]["message"]
    assert raised.value.request_id.startswith("req_")
    if status == 429:
        # A gateway that was told so a moment ago tells what is left of it.
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 7
    if status == 400:
        assert "as asked: 400" in raised.value.message


def test_an_errors_body_names_the_request(claude):
    with pytest.raises(anthropic.BadRequestError) as raised:
        ask(claude, model="claude-error-400", messages=user("x"))
    assert raised.value.body["request_id"].startswith("req_")


@pytest.mark.hoosh
@pytest.mark.parametrize("vendor", ["claude", "gemini-3", "ollama", "gpt"])
def test_a_vendors_refusal_of_the_gateways_key_is_not_the_callers(claude, vendor):
    with pytest.raises(anthropic.InternalServerError) as raised:
        ask(claude, model=f"{vendor}-error-401", messages=user("x"))
    assert raised.value.status_code == 502


@pytest.mark.hoosh
def test_a_wrong_key_and_an_unknown_model(claude):
    with pytest.raises(anthropic.AuthenticationError) as raised:
        ask(claude.with_options(api_key="not-the-token"), model=MODELS["gemini"], messages=user("x"))
    assert raised.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.NotFoundError) as raised:
        ask(claude, model="no-such-thing-at-all", messages=user("x"))
    assert raised.value.body["error"]["type"] == "not_found_error"


@every
def test_a_stream_that_breaks_off_raises(claude, model):
    texts = []
    with pytest.raises(Exception) as raised:
        with claude.messages.stream(model=model, max_tokens=99, messages=user("cut")) as stream:
            texts.extend(stream.text_stream)
    assert "".join(texts) == "Half of"
    # Straight from the vendor the SDK lets the error of its HTTP library through.
    assert isinstance(raised.value, anthropic.APIError) or "Error" in type(raised.value).__name__


@pytest.mark.hoosh
def test_a_stream_that_breaks_off_ends_with_an_error_event(claude):
    with pytest.raises(anthropic.APIError):
        with claude.messages.stream(model=MODELS["gemini"], max_tokens=99, messages=user("cut")) as stream:
            list(stream)


@pytest.mark.hoosh
def test_models(claude):
    names = [model.id for model in claude.models.list()]
    assert set(MODELS.values()) <= set(names)
    assert claude.models.retrieve(MODELS["anthropic"]).id == MODELS["anthropic"]


@pytest.mark.llama
@pytest.mark.hoosh
@pytest.mark.parametrize("provider", ["chat", "messages"], ids=["as OpenAI's dialect", "as Anthropic's"])
def test_the_real_llama_server(claude, provider):
    model = f"{provider}/{CHAT_MODEL}"
    question = user("Say hi.")
    reply = ask(claude, model=model, max_tokens=8, messages=question)
    assert reply.content[0].text and 0 < reply.usage.output_tokens <= 8
    streamed = ask(claude, True, model=model, max_tokens=8, messages=question)
    assert streamed.content[0].text and 0 < streamed.usage.output_tokens <= 8
    tools = [{"name": "get_weather", "description": "Get the current weather in a city", "input_schema": CITY}]
    asked = {"model": model, "messages": user("What is the weather in Paris?"), "tools": tools, "max_tokens": 80}
    for streamed in (False, True):
        called = ask(claude, streamed, extra_body={"temperature": 0}, **asked)
        (call,) = calls_of(called)
        assert (call.name, call.input, called.stop_reason) == ("get_weather", {"city": "Paris"}, "tool_use")
    assert claude.messages.count_tokens(model=model, messages=question).input_tokens > 0
