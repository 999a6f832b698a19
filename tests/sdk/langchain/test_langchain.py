"""LangChain's OpenAI and Anthropic chat models, unmodified, over providers of every dialect. They have an environment of
their own: they hold the SDKs at other versions."""

import os

import anthropic
import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from providers import ADA, MODELS, PNG, TASKS, TEXT, run_tool, usage_of
from pydantic import BaseModel

URL, TOKEN = os.environ["HOOSH_URL"], os.environ["HOOSH_TOKEN"]
every = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


class Person(BaseModel):
    """A person."""

    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Weather."""
    return run_tool("get_weather", {"city": city})


@tool
def step(n: int) -> str:
    """Steps."""
    return run_tool("step", {"n": n})


def as_openai(model, **settings):
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=TOKEN, max_retries=0, timeout=60, **settings)


def as_responses(model, **settings):
    return as_openai(model, use_responses_api=True, **settings)


def as_anthropic(model, **settings):
    settings = {"max_tokens": 4096, **settings}
    return ChatAnthropic(model=model, base_url=URL, api_key=TOKEN, max_retries=0, timeout=60, **settings)


FACES = {"openai": as_openai, "responses": as_responses, "anthropic": as_anthropic}
every_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES)


@every
@every_face
def test_invoke_and_stream(model, face):
    reply = face(model).invoke("hello")
    assert reply.text == TEXT
    tokens = usage_of(model)
    assert reply.usage_metadata["total_tokens"] == tokens.prompt + tokens.answer
    assert reply.usage_metadata["input_token_details"].get("cache_read", 0) == tokens.cached
    assert "".join(chunk.text for chunk in face(model).stream("hello")) == TEXT


@every
@every_face
@pytest.mark.parametrize("task", TASKS)
def test_agent_loop(model, face, task):
    turns, answer = TASKS[task]
    bound = face(model).bind_tools([get_weather, step])
    messages = [HumanMessage(f"Please: {task}")]
    for expected in turns:
        messages.append(bound.invoke(messages))
        assert len(messages[-1].tool_calls) == expected
        for call in messages[-1].tool_calls:
            own = {"get_weather": get_weather, "step": step}[call["name"]]
            messages.append(ToolMessage(own.invoke(call["args"]), tool_call_id=call["id"]))
    assert bound.invoke(messages).text == answer


@every
@pytest.mark.parametrize(
    "chat",
    [
        lambda model: as_responses(model, reasoning={"effort": "high", "summary": "auto"}),
        lambda model: as_anthropic(model, thinking={"type": "enabled", "budget_tokens": 2000}),
    ],
    ids=["responses", "anthropic"],
)
def test_agent_loop_with_thinking(model, chat):
    bound = chat(model).bind_tools([step])
    messages = [HumanMessage("Please: three steps")]
    for _ in range(3):
        reply = bound.invoke(messages)
        assert any(block["type"] == "reasoning" for block in reply.content_blocks)
        (call,) = reply.tool_calls
        messages += [reply, ToolMessage(step.invoke(call["args"]), tool_call_id=call["id"])]
    assert bound.invoke(messages).text == "Done: R1 R2 R3."


@every
@every_face
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model, face, method):
    assert face(model).with_structured_output(Person, method=method).invoke("who?") == Person(**ADA)


@every
@every_face
def test_vision(model, face):
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    reply = face(model).invoke([HumanMessage([{"type": "text", "text": "what is this?"}, image])])
    assert reply.text == "I see an image of type image/png."


@pytest.mark.parametrize("vendor", ["claude", "gemini-3", "ollama", "gpt"])
def test_errors(vendor):
    with pytest.raises(openai.RateLimitError):
        as_openai(f"{vendor}-error-429").invoke("x")
    with pytest.raises(anthropic.RateLimitError):
        as_anthropic(f"{vendor}-error-429").invoke("x")


def test_embeddings():
    embeddings = OpenAIEmbeddings(model=MODELS["gemini"], base_url=f"{URL}/v1", api_key=TOKEN, check_embedding_ctx_length=False)
    assert embeddings.embed_query("a dog") == pytest.approx([0.6, 0.8, 0.0])
