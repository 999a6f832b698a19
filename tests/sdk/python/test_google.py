"""The official Google Gen AI SDK, unmodified, over providers of every dialect, and over the real llama-server."""

import pytest
from conftest import CHAT_MODEL, EMBED_MODEL, TOKEN
from google import genai
from google.genai import errors, types
from providers import (
    ADA,
    CITY,
    EMBEDDING_MODELS,
    MODELS,
    PNG_BYTES,
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

every = every_provider("gemini")
TOOLS = [
    types.Tool(
        function_declarations=[
            types.FunctionDeclaration(name="get_weather", description="Weather", parameters_json_schema=CITY),
            types.FunctionDeclaration(name="step", description="Steps", parameters_json_schema=STEP),
        ]
    )
]
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)
SHOWN = types.ThinkingConfig(include_thoughts=True, thinking_budget=2000)


class Person(BaseModel):
    name: str
    age: int


# The SDK for Python asks for v1 unless told otherwise, the one for JavaScript for v1beta.
@pytest.fixture(scope="module", params=["v1", "v1beta"])
def google(request):
    options = types.HttpOptions(base_url=url_of("gemini"), timeout=60_000, retry_options=types.HttpRetryOptions(attempts=1))
    options.api_version = request.param
    return genai.Client(api_key=TOKEN, http_options=options)


def config_of(**settings):
    return types.GenerateContentConfig(automatic_function_calling=BY_HAND, **settings)


def user(*parts):
    return [types.Content(role="user", parts=[types.Part(text=part) if isinstance(part, str) else part for part in parts])]


def ask(google, streamed=False, **asked):
    """The parts of the answer and its last frame."""
    if not streamed:
        reply = google.models.generate_content(**asked)
        return reply.candidates[0].content.parts, reply
    chunks = list(google.models.generate_content_stream(**asked))
    return [part for chunk in chunks for part in chunk.candidates[0].content.parts or []], chunks[-1]


def said(parts, *, thought=False):
    return "".join(part.text or "" for part in parts if bool(part.thought) == thought)


@every
@whole_and_streamed
def test_text_and_usage(google, model, streamed):
    config = config_of(system_instruction="Be brief.")
    parts, last = ask(google, streamed, model=model, contents="hello", config=config)
    assert said(parts) == TEXT
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    usage, tokens = last.usage_metadata, usage_of(model)
    assert usage.prompt_token_count == tokens.prompt
    assert (usage.cached_content_token_count or 0) == tokens.cached
    assert (usage.thoughts_token_count or 0) == tokens.reasoning
    assert usage.candidates_token_count == tokens.answer - tokens.reasoning
    assert usage.total_token_count == tokens.prompt + tokens.answer


@every
@whole_and_streamed
@every_task
@pytest.mark.parametrize("thinking", [None, SHOWN], ids=["plain", "thinking"])
def test_agent_loop(google, model, streamed, task, thinking):
    turns, answer = TASKS[task]
    contents = user(f"Please: {task}")
    asked = {"model": model, "contents": contents, "config": config_of(tools=TOOLS, thinking_config=thinking)}
    for expected in turns:
        parts, _ = ask(google, streamed, **asked)
        calls = [part.function_call for part in parts if part.function_call]
        assert len(calls) == expected
        results = [
            types.FunctionResponse(id=call.id, name=call.name, response={"output": run_tool(call.name, call.args)})
            for call in calls
        ]
        # The turn goes back as it came, with the vendor's signatures.
        contents.append(types.Content(role="model", parts=parts))
        contents += user(*(types.Part(function_response=result) for result in results))
    parts, _ = ask(google, streamed, **asked)
    assert said(parts) == answer


@every
def test_the_sdk_calls_a_python_function_by_itself(google, model):
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return run_tool("get_weather", {"city": city})

    config = types.GenerateContentConfig(tools=[get_weather])
    reply = google.models.generate_content(model=model, contents="weather", config=config)
    assert reply.text == "It is 21 degrees in Paris."


@every
def test_a_chat_keeps_its_history(google, model):
    chat = google.chats.create(model=model, config=config_of(thinking_config=SHOWN))
    first = chat.send_message("think")
    assert (said(first.candidates[0].content.parts, thought=True), first.text) == ("Let me think.", "42.")
    assert "".join(chunk.text or "" for chunk in chat.send_message_stream("hello")) == TEXT


@every
@whole_and_streamed
def test_thinking(google, model, streamed):
    config = config_of(thinking_config=SHOWN, max_output_tokens=4000)
    parts, _ = ask(google, streamed, model=model, contents="think", config=config)
    assert (said(parts, thought=True), said(parts)) == ("Let me think.", "42.")


@every
@pytest.mark.parametrize("field", ["response_json_schema", "response_schema"])
def test_structured_output(google, model, field):
    schema = {"response_json_schema": SCHEMA, "response_schema": Person}[field]
    config = config_of(response_mime_type="application/json", **{field: schema})
    reply = google.models.generate_content(model=model, contents="who?", config=config)
    assert reply.parsed == {"response_json_schema": ADA, "response_schema": Person(**ADA)}[field]


@every
def test_a_forced_tool_is_called(google, model):
    declaration = types.FunctionDeclaration(name="person", description="A person", parameters_json_schema=SCHEMA)
    choice = types.FunctionCallingConfig(mode="ANY", allowed_function_names=["person"])
    config = config_of(
        tools=[types.Tool(function_declarations=[declaration])],
        tool_config=types.ToolConfig(function_calling_config=choice),
    )
    (call,) = google.models.generate_content(model=model, contents="who?", config=config).function_calls
    assert (call.name, call.args) == ("person", ADA)


@every
def test_vision(google, model):
    image = types.Part.from_bytes(data=PNG_BYTES, mime_type="image/png")
    reply = google.models.generate_content(model=model, contents=[image, "what is this?"])
    assert reply.text == "I see an image of type image/png."


@every
def test_count_tokens(google, model):
    counted = google.models.count_tokens(model=model, contents="hello " * 40).total_tokens
    # Those who speak this dialect are asked; for the others the gateway estimates.
    if model == MODELS["gemini"]:
        assert counted == usage_of(model).prompt
    else:
        assert 20 < counted < 120


ERRORS = {400: (errors.ClientError, 400), 404: (errors.ClientError, 404), 429: (errors.ClientError, 429), 500: (errors.ServerError, None), 529: (errors.ServerError, None)}
STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


@every_error("gemini", ERRORS)
@whole_and_streamed
def test_error_classes(google, model, status, error, streamed):
    kind, code = error
    with pytest.raises(kind) as raised:
        ask(google, streamed, model=model, contents="x")
    assert raised.value.message and raised.value.status == STATUSES.get(status, raised.value.status)
    if code:
        assert raised.value.code == code
    if status == 400:
        assert "as asked: 400" in raised.value.message
    if status == 429:
        # A gateway that was told so a moment ago tells what is left of it.
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 7


@pytest.mark.hoosh
def test_a_wrong_key_and_an_unknown_model(google):
    wrong = genai.Client(api_key="not-the-token", http_options=types.HttpOptions(base_url=url_of("gemini")))
    with pytest.raises(errors.ClientError) as raised:
        wrong.models.generate_content(model=MODELS["ollama"], contents="x")
    assert (raised.value.code, raised.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError) as raised:
        google.models.generate_content(model="no-such-thing-at-all", contents="x")
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")


@every
def test_a_stream_that_breaks_off_raises(google, model):
    texts = []
    with pytest.raises(Exception):
        for chunk in google.models.generate_content_stream(model=model, contents="cut"):
            texts.append(chunk.text or "")
    assert "".join(texts) == "Half of"


@pytest.mark.hoosh
def test_models(google):
    names = [model.name for model in google.models.list()]
    assert {f"models/{model}" for model in MODELS.values()} <= set(names)
    assert google.models.get(model=MODELS["anthropic"]).name == f"models/{MODELS['anthropic']}"


@every_provider("gemini", EMBEDDING_MODELS)
@pytest.mark.parametrize("texts", ["a dog", ["a dog", "a cat"]], ids=["one", "many"])
def test_embeddings(google, model, texts):
    if model == MODELS["anthropic"]:
        with pytest.raises(errors.APIError):
            google.models.embed_content(model=model, contents=texts)
        return
    vectors = google.models.embed_content(model=model, contents=texts).embeddings
    assert [vector.values for vector in vectors] == [[0.6, 0.8, 0.0]] * (len(texts) if isinstance(texts, list) else 1)


@pytest.mark.llama
@pytest.mark.hoosh
def test_the_real_llama_server(google):
    reply = google.models.generate_content(
        model=CHAT_MODEL, contents="What is the capital of France?", config=config_of(max_output_tokens=16, temperature=0)
    )
    assert "Paris" in reply.text and 0 < reply.usage_metadata.candidates_token_count <= 16
    vectors = google.models.embed_content(model=EMBED_MODEL, contents=["a dog", "a cat"]).embeddings
    assert [len(vector.values) for vector in vectors] == [384, 384]
