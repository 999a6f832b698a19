"""Acts like OpenAI's API with a reasoning model (chat, Responses, completions, embeddings, moderations), and like those who
speak its dialect where these do more: reasoning is told as `reasoning_content`, and /v1/rerank answers. See base.py.
Source: platform.openai.com/docs/api-reference, read 2026-11-24."""

import base64
import json
import re
import struct

from base import NUMBERS, VECTOR, Handler, Refused, Turn, compact, media_type, need, pieces, script, serve, sign, usage_of

TOKENS = usage_of("openai")
RESPONSES_USAGE = {
    "input_tokens": TOKENS.prompt,
    "input_tokens_details": {"cached_tokens": TOKENS.cached},
    "output_tokens": TOKENS.answer,
    "output_tokens_details": {"reasoning_tokens": TOKENS.reasoning},
    "total_tokens": TOKENS.prompt + TOKENS.answer,
}
MODELS = ["gpt-standin", "rerank-standin"]
CHAT_FIELDS = set(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens metadata"
    " modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key reasoning_effort response_format"
    " safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user"
    " verbosity web_search_options".split()
)
RESPONSES_FIELDS = set(
    "background conversation include input instructions max_output_tokens max_tool_calls metadata model parallel_tool_calls"
    " previous_response_id prompt prompt_cache_key reasoning safety_identifier service_tier store stream stream_options"
    " temperature text tool_choice tools top_logprobs top_p truncation user".split()
)
# What is kept: the items of each answer with those before it, and each item, by their ids.
KEPT = {}


def param(condition, message, name, code=None):
    if not condition:
        raise Refused(message, param=name, code=code)


def known(body, fields):
    for field in set(body) - fields:
        raise Refused(f"Unrecognized request argument supplied: {field}", param=field, code="unknown_parameter")


def image_type(url):
    if url.startswith(("http://", "https://")):
        return "url"
    match = re.fullmatch("data:(image/[a-z]+);base64,(.*)", url)
    need(match and media_type(match.group(2)) == match.group(1), "Invalid image: the URL is no image in base64")
    return match.group(1)


def check_strict(schema, where):
    """What OpenAI asks of a schema that is strict."""
    if schema.get("type") == "object":
        needed = schema.get("additionalProperties") is False and sorted(schema.get("required", [])) == sorted(schema["properties"])
        need(needed, f"Invalid schema for {where}: 'additionalProperties' must be false and every key in 'required'")
        for inner in schema["properties"].values():
            check_strict(inner, where)


# --- chat ---


def chat_turn(message, where):
    turn = Turn("assistant" if message["role"] == "assistant" else "user")
    content = message.get("content")
    if message["role"] != "assistant" or not message.get("tool_calls"):
        param(content is not None, f"Invalid value for 'content': expected a string, got null.", f"{where}.content")
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content or []:
        kind = part["type"]
        param(kind in ("text", "image_url", "input_audio", "file", "refusal"), f"Invalid value: '{kind}'.", f"{where}.content")
        turn.text += part.get("text", "")
        if kind == "image_url":
            turn.image = image_type(part["image_url"]["url"])
    if message["role"] in ("system", "developer"):
        turn.text = ""
    return turn


def chat_turns(messages):
    param(messages, "Invalid 'messages': empty array.", "messages")
    turns, open_calls = [], []
    for index, message in enumerate(messages):
        where, role = f"messages.[{index}]", message["role"]
        param(role in ("system", "developer", "user", "assistant", "tool"), f"Invalid value: '{role}'.", f"{where}.role")
        if role == "tool":
            param(message["tool_call_id"] in open_calls, "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", f"{where}.role")
            open_calls.remove(message["tool_call_id"])
            turn = chat_turn(message, where)
            turn.results, turn.text = [turn.text], ""
            turns.append(turn)
            continue
        param(not open_calls, f"An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {open_calls}", where)
        turn = chat_turn(message, where)
        for call in message.get("tool_calls") or []:
            param(isinstance(call["function"]["arguments"], str), "Invalid type for 'arguments': expected a string.", where)
            turn.calls.append(call["function"]["name"])
            open_calls.append(call["id"])
        turns.append(turn)
    param(not open_calls, f"An assistant message with 'tool_calls' must be followed by tool messages: {open_calls}", "messages")
    return turns


def chat_choice(body):
    """What the model says, after the request was checked."""
    known(body, CHAT_FIELDS)
    param("stream_options" not in body or body.get("stream"), "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    for name in tools:
        param(re.fullmatch("[a-zA-Z0-9_-]{1,64}", name), f"Invalid 'tools[0].function.name': string does not match pattern.", "tools")
    choice = body.get("tool_choice", "auto")
    param("tool_choice" not in body or tools, "'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    forced = choice["function"]["name"] if isinstance(choice, dict) else None
    shape = body.get("response_format") or {"type": "text"}
    if shape["type"] == "json_schema":
        named = shape["json_schema"]
        param(re.fullmatch("[a-zA-Z0-9_-]{1,64}", named["name"]), "Invalid 'response_format.json_schema.name'.", "response_format")
        if named.get("strict"):
            check_strict(named["schema"], f"response_format '{named['name']}'")
    thinks = body.get("reasoning_effort", "none") != "none"
    return script(chat_turns(body["messages"]), tools=tools, thinks=thinks, schema=shape["type"] == "json_schema", forced=forced)


# --- Responses ---


def response_turns(items):
    turns, open_calls = [], []
    for index, item in enumerate(items):
        where, kind = f"input[{index}]", item.get("type", "message")
        if kind == "item_reference":
            param(item["id"] in KEPT, f"Item with id '{item['id']}' not found.", where)
            item = KEPT[item["id"]]
            kind = item["type"]
        if kind == "message":
            role = item["role"]
            turn = Turn("assistant" if role == "assistant" else "user")
            content = item["content"]
            if isinstance(content, str):
                content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
            for part in content:
                allowed = ("output_text", "refusal") if role == "assistant" else ("input_text", "input_image", "input_file")
                param(part["type"] in allowed, f"Invalid value: '{part['type']}'. Supported values are: {allowed}.", f"{where}.content[0]")
                turn.text += part.get("text", "") if role in ("user", "assistant") else ""
                if part["type"] == "input_image":
                    turn.image = image_type(part["image_url"])
            turns.append(turn)
        elif kind == "function_call":
            param(isinstance(item["arguments"], str), "Invalid type for 'arguments': expected a string.", where)
            open_calls.append(item["call_id"])
        elif kind == "function_call_output":
            param(item["call_id"] in open_calls, f"No tool call found for function call output with call_id {item['call_id']}.", where)
            open_calls.remove(item["call_id"])
            turn = Turn("user")
            output = item["output"]
            turn.results = [output if isinstance(output, str) else "".join(part.get("text", "") for part in output)]
            turns.append(turn)
        elif kind == "reasoning":
            text = "".join(part["text"] for part in item["summary"])
            if item.get("encrypted_content") is not None:
                param(item["encrypted_content"] == sign("openai", text), "The encrypted content could not be verified.", where, "invalid_encrypted_content")
            else:
                param(item["id"] in KEPT, f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false.", where)
        else:
            raise Refused(f"Invalid value: '{kind}'.", param=where, code="invalid_value")
    param(not open_calls, f"No tool output found for function call {', '.join(open_calls)}.", "input")
    return turns


def items_of(body):
    items = body["input"]
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    previous = body.get("previous_response_id")
    if previous is not None:
        param(previous in KEPT, f"Previous response with id '{previous}' not found.", "previous_response_id", "previous_response_not_found")
        items = KEPT[previous] + items
    return items


def response_said(body, items):
    known(body, RESPONSES_FIELDS)
    tools = [tool["name"] for tool in body.get("tools") or []]
    choice = body.get("tool_choice", "auto")
    forced = choice["name"] if isinstance(choice, dict) else None
    shape = (body.get("text") or {}).get("format") or {"type": "text"}
    if shape["type"] == "json_schema" and shape.get("strict"):
        check_strict(shape["schema"], f"text.format '{shape['name']}'")
    thinks = ((body.get("reasoning") or {}).get("effort") or "none") != "none"
    return script(response_turns(items), tools=tools, thinks=thinks, schema=shape["type"] == "json_schema", forced=forced)


def output_of(said, body):
    output = []
    if said.reasoning:
        shown = (body.get("reasoning") or {}).get("summary")
        item = {"id": f"rs_{next(NUMBERS)}", "type": "reasoning", "summary": []}
        text = said.reasoning if shown else ""
        if shown:
            item["summary"].append({"type": "summary_text", "text": text})
        if "reasoning.encrypted_content" in (body.get("include") or []):
            item["encrypted_content"] = sign("openai", text)
        output.append(item)
    if said.text:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
        output.append({"id": f"msg_{next(NUMBERS)}", "type": "message", "status": "completed", "role": "assistant", "content": [part]})
    for name, arguments in said.calls:
        number = next(NUMBERS)
        called = {"call_id": f"call_{number}", "name": name, "arguments": json.dumps(arguments)}
        output.append({"id": f"fc_{number}", "type": "function_call", "status": "completed", **called})
    return output


def error_of(status, message, details):
    kinds = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}
    error = {"message": message, "type": kinds.get(status, "invalid_request_error"), "param": None, "code": None}
    return {"error": {**error, **details}}


class Dialect(Handler):
    """Chat, completions and embeddings, as many vendors have them."""

    tokens = TOKENS
    reasoning_field = "reasoning_content"

    def error_body(self, status, message, details):
        return error_of(status, message, details)

    def usage(self):
        tokens = self.tokens
        counts = {"prompt_tokens": tokens.prompt, "completion_tokens": tokens.answer, "total_tokens": tokens.prompt + tokens.answer}
        if tokens.cached:
            counts["prompt_tokens_details"] = {"cached_tokens": tokens.cached}
        if tokens.reasoning:
            counts["completion_tokens_details"] = {"reasoning_tokens": tokens.reasoning}
        return counts

    def chat(self, body):
        said = chat_choice(body)
        calls = [
            {"id": f"call_{next(NUMBERS)}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for name, arguments in said.calls
        ]
        reason = "tool_calls" if calls else "stop"
        frame = {"id": f"chatcmpl-{next(NUMBERS)}", "created": 1_795_000_000, "model": body["model"], "service_tier": "default"}
        if body.get("stream"):
            return self.chat_stream(body, said, calls, reason, frame)
        message = {"role": "assistant", "content": said.text, "refusal": None, "annotations": []}
        if said.reasoning:
            message[self.reasoning_field] = said.reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        self.json({**frame, "object": "chat.completion", "choices": [choice], "usage": self.usage()})

    def chat_stream(self, body, said, calls, reason, frame):
        with_usage = (body.get("stream_options") or {}).get("include_usage")
        frame["object"] = "chat.completion.chunk"

        def send(delta, reason=None):
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            self.event({**frame, "choices": [choice], **({"usage": None} if with_usage else {})})

        self.begin("text/event-stream; charset=utf-8")
        send({"role": "assistant", "content": None if calls else "", "refusal": None})
        for text in pieces(said.reasoning or ""):
            send({self.reasoning_field: text})
        for text in pieces(said.text or ""):
            send({"content": text})
        if said.cut:
            return self.cut()
        for index, call in enumerate(calls):
            function = call["function"]
            send({"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]})
            for text in pieces(function["arguments"]):
                send({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
        send({}, reason)
        if with_usage:
            self.event({**frame, "choices": [], "usage": self.usage()})
        self.event("[DONE]")
        self.end()

    def completions(self, body):
        need(isinstance(body["prompt"], str), "prompt: only a string is understood here")
        said = script([Turn("user", body["prompt"])])
        frame = {"id": f"cmpl-{next(NUMBERS)}", "object": "text_completion", "created": 1_795_000_000, "model": body["model"]}
        if not body.get("stream"):
            choice = {"index": 0, "text": said.text, "logprobs": None, "finish_reason": "stop"}
            return self.json({**frame, "choices": [choice], "usage": self.usage()})
        self.begin("text/event-stream; charset=utf-8")
        for text in pieces(said.text):
            self.event({**frame, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}]})
        if said.cut:
            return self.cut()
        self.event({**frame, "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self.event({**frame, "choices": [], "usage": self.usage()})
        self.event("[DONE]")
        self.end()

    def embeddings(self, body):
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vector = VECTOR
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(inputs))]
        usage = {"prompt_tokens": self.tokens.prompt, "total_tokens": self.tokens.prompt}
        self.json({"object": "list", "data": data, "model": body["model"], "usage": usage})

class OpenAI(Dialect):
    def get(self, path):
        if path != "/v1/models":
            raise Refused(f"Invalid URL (GET {path})", 404)
        self.json({"object": "list", "data": [{"id": id, "object": "model", "created": 1, "owned_by": "openai"} for id in MODELS]})

    def post(self, path, body):
        if not self.headers.get("authorization", "").startswith("Bearer "):
            raise Refused("You didn't provide an API key.", 401, code="invalid_api_key")
        routes = {
            "/v1/chat/completions": self.chat,
            "/v1/responses": self.respond,
            "/v1/completions": self.completions,
            "/v1/embeddings": self.embeddings,
            "/v1/moderations": self.moderations,
            "/v1/rerank": self.rerank,
        }
        if path not in routes:
            raise Refused(f"Invalid URL (POST {path})", 404)
        self.fail_if_asked(body.get("model", ""))
        routes[path](body)

    def respond(self, body):
        items = items_of(body)
        said = response_said(body, items)
        response = {
            "id": f"resp_{next(NUMBERS)}",
            "object": "response",
            "created_at": 1_795_000_000,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "model": body["model"],
            "output": output_of(said, body),
            "parallel_tool_calls": True,
            "previous_response_id": body.get("previous_response_id"),
            "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
            "store": body.get("store", True),
            "temperature": 1.0,
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice", "auto"),
            "tools": body.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": RESPONSES_USAGE,
            "metadata": body.get("metadata") or {},
        }
        if response["store"]:
            KEPT[response["id"]] = items + response["output"]
            KEPT.update({item["id"]: item for item in response["output"]})
        self.response_stream(response, said.cut) if body.get("stream") else self.json(response)

    def response_stream(self, response, cut):
        numbers = iter(range(1_000))

        def send(kind, **fields):
            self.event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

        begun = {**response, "status": "in_progress", "output": [], "usage": None}
        self.begin("text/event-stream; charset=utf-8")
        send("response.created", response=begun)
        send("response.in_progress", response=begun)
        for index, item in enumerate(response["output"]):
            at = {"item_id": item["id"], "output_index": index}
            if item["type"] == "reasoning":
                send("response.output_item.added", output_index=index, item={**item, "summary": []})
                for number, part in enumerate(item["summary"]):
                    inner = {**at, "summary_index": number}
                    send("response.reasoning_summary_part.added", **inner, part={**part, "text": ""})
                    for text in pieces(part["text"]):
                        send("response.reasoning_summary_text.delta", **inner, delta=text)
                    send("response.reasoning_summary_text.done", **inner, text=part["text"])
                    send("response.reasoning_summary_part.done", **inner, part=part)
            elif item["type"] == "message":
                send("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
                part, inner = item["content"][0], {**at, "content_index": 0}
                send("response.content_part.added", **inner, part={**part, "text": ""})
                for text in pieces(part["text"]):
                    send("response.output_text.delta", **inner, delta=text, logprobs=[])
                if cut:
                    return self.cut()
                send("response.output_text.done", **inner, text=part["text"], logprobs=[])
                send("response.content_part.done", **inner, part=part)
            else:
                send("response.output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""})
                for text in pieces(item["arguments"]):
                    send("response.function_call_arguments.delta", **at, delta=text)
                send("response.function_call_arguments.done", **at, arguments=item["arguments"], name=item["name"])
            send("response.output_item.done", output_index=index, item=item)
        send("response.completed", response=response)
        self.end()

    def moderations(self, body):
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        results = [
            {"flagged": "kill" in text, "categories": {"violence": "kill" in text}, "category_scores": {"violence": 0.9 * ("kill" in text)},
             "category_applied_input_types": {"violence": ["text"]}}
            for text in inputs
        ]  # fmt: skip
        self.json({"id": f"modr-{next(NUMBERS)}", "model": body["model"], "results": results})

    def rerank(self, body):
        words = set(body["query"].lower().split())
        scores = [len(words & set(text.lower().split())) / len(words) for text in body["documents"]]
        order = sorted(range(len(scores)), key=lambda at: -scores[at])[: body.get("top_n") or len(scores)]
        self.json({"model": body["model"], "object": "list", "usage": {"total_tokens": 9},
                   "results": [{"index": at, "relevance_score": scores[at]} for at in order]})  # fmt: skip


if __name__ == "__main__":
    serve(OpenAI)
