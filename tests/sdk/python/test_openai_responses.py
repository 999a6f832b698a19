"""The official OpenAI SDK's Responses, unmodified, over providers of every dialect, and over the real llama-server."""

import json

import openai
import pytest
from conftest import CHAT_MODEL, options
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

every = every_provider("openai")
WEATHER = {"type": "function", "name": "get_weather", "description": "Weather", "parameters": CITY, "strict": False}
STEPS = {"type": "function", "name": "step", "description": "Steps", "parameters": STEP, "strict": False}
REASONING = {"effort": "high", "summary": "auto"}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def client():
    with openai.OpenAI(**options(url_of("openai"))) as client:
        yield client


def ask(client, streamed=False, **asked):
    if not streamed:
        return client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        return stream.until_done().get_final_response()


@every
@whole_and_streamed
def test_text_and_usage(client, model, streamed):
    reply = ask(client, streamed, model=model, input="hello", instructions="Be brief.")
    assert (reply.output_text, reply.status, reply.object, reply.model) == (TEXT, "completed", "response", model)
    usage, tokens = reply.usage, usage_of(model)
    assert (usage.input_tokens, usage.output_tokens) == (tokens.prompt, tokens.answer)
    assert usage.total_tokens == tokens.prompt + tokens.answer
    assert usage.input_tokens_details.cached_tokens == tokens.cached
    assert usage.output_tokens_details.reasoning_tokens == tokens.reasoning


@every
def test_events_of_a_stream(client, model):
    events = list(client.responses.create(model=model, input="hello", stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") > 3, "the answer came in one piece"
    frame = [kind for kind in kinds if kind not in ("response.created", "response.in_progress", "response.output_text.delta")]
    assert frame == [
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))


@every
@whole_and_streamed
@every_task
@pytest.mark.parametrize("kept", [True, False], ids=["previous_response_id", "stateless"])
@pytest.mark.parametrize("reasoning", [None, REASONING], ids=["plain", "thinking"])
def test_agent_loop(client, model, streamed, task, kept, reasoning):
    turns, answer = TASKS[task]
    items = [{"role": "user", "content": f"Please: {task}"}]
    asked = {"model": model, "tools": [WEATHER, STEPS], "store": kept}
    if reasoning:
        asked["reasoning"] = reasoning
    if not kept:
        asked["include"] = ["reasoning.encrypted_content"]
    for expected in turns:
        reply = ask(client, streamed, **asked, input=items)
        calls = [item for item in reply.output if item.type == "function_call"]
        assert len(calls) == expected
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": run_tool(call.name, call.arguments)}
            for call in calls
        ]
        if kept:
            asked["previous_response_id"], items = reply.id, results
        else:
            # The items go back as they came, with the vendor's signatures.
            items = items + [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in reply.output] + results
    reply = ask(client, streamed, **asked, input=items)
    assert reply.output_text == answer


@every
@whole_and_streamed
def test_thinking(client, model, streamed):
    reply = ask(client, streamed, model=model, input="think", reasoning=REASONING)
    assert [item.type for item in reply.output] == ["reasoning", "message"]
    assert (reply.output[0].summary[0].text, reply.output_text) == ("Let me think.", "42.")


@every
@whole_and_streamed
def test_parse_gives_a_pydantic_object(client, model, streamed):
    asked = {"model": model, "input": "who?", "text_format": Person}
    reply = ask(client, True, **asked) if streamed else client.responses.parse(**asked)
    assert reply.output_parsed == Person(**ADA)


@every
def test_a_forced_tool_is_called(client, model):
    tool = {"type": "function", "name": "person", "description": "A person", "parameters": SCHEMA, "strict": True}
    choice = {"type": "function", "name": "person"}
    reply = ask(client, model=model, input="who?", tools=[tool], tool_choice=choice)
    (call,) = [item for item in reply.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("person", ADA)


@every
def test_vision(client, model):
    content = [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"},
    ]
    reply = ask(client, model=model, input=[{"role": "user", "content": content}])
    assert reply.output_text == "I see an image of type image/png."


@every
def test_a_conversation_goes_on_by_the_id_of_an_answer(client, model):
    first = ask(client, model=model, input="hello")
    second = ask(client, model=model, input="think", previous_response_id=first.id)
    assert (second.output_text, second.previous_response_id) == ("42.", first.id)


@every
def test_an_answer_that_is_not_kept_is_told(client, model):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, model=model, input="x", previous_response_id="resp_nobody")
    assert raised.value.code == "previous_response_not_found" and "resp_nobody" in raised.value.message


ERRORS = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
}


@every_error("openai", ERRORS)
@whole_and_streamed
def test_error_classes(client, model, status, error, streamed):
    with pytest.raises(error) as raised:
        ask(client, streamed, model=model, input="x")
    if status == 429:
        # A gateway that was told so a moment ago tells what is left of it.
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 7
    if status == 400:
        assert "as asked: 400" in raised.value.message


@every
def test_a_stream_that_breaks_off_does_not_complete(client, model):
    texts, kinds = [], []
    try:
        for event in client.responses.create(model=model, input="cut", stream=True):
            kinds.append(event.type)
            texts.append(event.delta if event.type == "response.output_text.delta" else "")
    except Exception as error:  # straight from the vendor, the error of the SDK's HTTP library
        kinds.append(type(error).__name__)
    assert "".join(texts) == "Half of"
    assert kinds[-1] in ("response.failed", "error", "APIError") or "Error" in kinds[-1]
    assert "response.completed" not in kinds


@pytest.mark.llama
@pytest.mark.hoosh
@whole_and_streamed
def test_the_real_llama_server(client, streamed):
    asked = {"model": CHAT_MODEL, "temperature": 0}
    reply = ask(client, streamed, **asked, input="What is the capital of France?", max_output_tokens=32)
    assert "Paris" in reply.output_text and reply.status == "completed"
    weather = {**WEATHER, "description": "Get the current weather in a city"}
    called = ask(client, streamed, **asked, input="What is the weather in Paris?", tools=[weather], max_output_tokens=80)
    (call,) = [item for item in called.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
