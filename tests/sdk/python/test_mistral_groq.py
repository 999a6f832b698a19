"""The official Mistral and Groq SDKs, unmodified, which speak OpenAI's dialect in their own ways."""

import groq
import pytest
from conftest import TOKEN, URL
from mistralai.client import Mistral
from mistralai.client import errors as mistral_errors
from providers import CITY, MODELS, PNG, TASKS, TEXT, every_provider, run_tool, usage_of

pytestmark = pytest.mark.hoosh
every = every_provider("openai")
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": CITY}}


def user(content):
    return [{"role": "user", "content": content}]


def finish(complete, messages):
    """Runs the tools of "both cities" and gives the last answer."""
    message = complete(messages).choices[0].message
    messages.append({"role": "assistant", "content": "", "tool_calls": [call.model_dump(exclude_none=True) for call in message.tool_calls]})
    for call in message.tool_calls:
        result = run_tool(call.function.name, call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": result})
    return complete(messages).choices[0].message.content


@pytest.fixture(scope="module")
def mistral():
    with Mistral(api_key=TOKEN, server_url=URL, timeout_ms=60_000) as client:
        yield client


@every
def test_mistral(mistral, model):
    reply = mistral.chat.complete(model=model, messages=user("hello"), max_tokens=50)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (TEXT, "stop")
    assert reply.usage.total_tokens == usage_of(model).prompt + usage_of(model).answer
    chunks = [event.data for event in mistral.chat.stream(model=model, messages=user("hello"))]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT


@every
def test_mistral_tools_and_vision(mistral, model):
    answer = finish(lambda messages: mistral.chat.complete(model=model, messages=messages, tools=[WEATHER]), user("both cities"))
    assert answer == TASKS["both cities"][1]
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    reply = mistral.chat.complete(model=model, messages=user([{"type": "text", "text": "what is this?"}, image]))
    assert reply.choices[0].message.content == "I see an image of type image/png."


@pytest.mark.parametrize("vendor", ["claude", "gemini-3", "ollama", "gpt"])
@pytest.mark.parametrize("status", [400, 404, 429])
def test_mistral_errors(mistral, vendor, status):
    with pytest.raises(mistral_errors.SDKError) as raised:
        mistral.chat.complete(model=f"{vendor}-error-{status}", messages=user("x"))
    assert raised.value.status_code == status


@pytest.fixture(scope="module")
def fast():
    with groq.Groq(api_key=TOKEN, base_url=URL, max_retries=0, timeout=60) as client:
        yield client


@every
def test_groq(fast, model):
    asked = {"model": model, "messages": user("hello")}
    reply = fast.chat.completions.create(**asked)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (TEXT, "stop")
    assert reply.usage.total_tokens == usage_of(model).prompt + usage_of(model).answer
    chunks = fast.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT


@every
def test_groq_tools(fast, model):
    answer = finish(lambda messages: fast.chat.completions.create(model=model, messages=messages, tools=[WEATHER]), user("both cities"))
    assert answer == TASKS["both cities"][1]


def test_groq_errors(fast):
    for status, error in {400: groq.BadRequestError, 404: groq.NotFoundError, 429: groq.RateLimitError}.items():
        with pytest.raises(error):
            fast.chat.completions.create(model=f"claude-error-{status}", messages=user("x"))
    with pytest.raises(groq.AuthenticationError):
        fast.with_options(api_key="not-the-token").models.list()
    assert set(MODELS.values()) <= {model.id for model in fast.models.list().data}
