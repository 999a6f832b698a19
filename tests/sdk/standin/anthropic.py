"""Acts like Anthropic's API; see base.py. Source: docs.anthropic.com/en/api/messages, read 2026-11-24."""

import json
import re

from base import NUMBERS, Handler, Refused, Turn, media_type, need, pieces, script, serve, sign, usage_of

TOKENS = usage_of("anthropic")
USAGE = {
    "input_tokens": TOKENS.prompt - TOKENS.cached - TOKENS.written,
    "cache_creation_input_tokens": TOKENS.written,
    "cache_read_input_tokens": TOKENS.cached,
    "output_tokens": TOKENS.answer,
}
FIELDS = set(
    "model messages max_tokens system stream temperature top_p top_k stop_sequences metadata tools tool_choice thinking"
    " service_tier output_config output_format cache_control container mcp_servers context_management inference_geo".split()
)
KINDS = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
# The newer is what its own SDKs ask for since their versions 1 (JavaScript) and 2 (Python).
VERSIONS = ("2023-06-01", "2026-10-21")
MODELS = ["claude-standin-4-5"]


def block_text(block, where):
    need(block["text"], f"{where}: text content blocks must be non-empty")
    need(block["text"].strip(), f"{where}: text content blocks must contain non-whitespace text")
    return block["text"]


def image_type(block, where):
    source = block["source"]
    if source["type"] == "url":
        return "url"
    need(source["type"] == "base64", f"{where}.source: Input tag '{source['type']}' found using 'type' does not match")
    need(media_type(source["data"]) == source["media_type"], f"{where}.source.base64: the image is not of its media type")
    return source["media_type"]


def result_text(block, where):
    content = block.get("content", "")
    if isinstance(content, str):
        return content
    return "".join(block_text(part, where) for part in content if part["type"] == "text")


def turn_of(message, where):
    need(message["role"] in ("user", "assistant"), f"{where}.role: Input should be 'user' or 'assistant'")
    turn = Turn(message["role"])
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    need(content, f"{where}: all messages must have non-empty content")
    allowed = {"user": ("text", "image", "document", "tool_result"), "assistant": ("text", "thinking", "redacted_thinking", "tool_use")}
    results_over = False
    for index, block in enumerate(content):
        kind, at = block["type"], f"{where}.content.{index}"
        need(kind in allowed[turn.role], f"{at}: Input tag '{kind}' is not allowed in a turn of role {turn.role}")
        if kind == "text":
            turn.text += block_text(block, at)
        elif kind == "image":
            turn.image = image_type(block, at)
        elif kind == "thinking":
            signed = block.get("signature") == sign("anthropic", block["thinking"])
            need(signed, f"{at}: Invalid `signature` in `thinking` block")
        elif kind == "tool_use":
            need(isinstance(block["input"], dict), f"{at}.tool_use.input: Input should be a valid dictionary")
            need(re.fullmatch("[a-zA-Z0-9_-]+", block["id"]), f"{at}.tool_use.id: String should match pattern")
            turn.calls.append(block["id"])
        elif kind == "tool_result":
            need(not results_over, f"{at}: `tool_result` blocks must come before everything else")
            turn.results.append((block["tool_use_id"], result_text(block, at)))
        results_over |= kind != "tool_result"
    turn.begins_with_thinking = content[0]["type"] in ("thinking", "redacted_thinking")
    return turn


def turns_of(body, thinks):
    need(body["messages"], "messages: at least one message is required")
    turns = [turn_of(message, f"messages.{index}") for index, message in enumerate(body["messages"])]
    need(turns[0].role == "user", "messages: first message must use the \"user\" role")
    calls = []
    for index, turn in enumerate(turns):
        where = f"messages.{index}"
        need(index == 0 or turn.role != turns[index - 1].role, f'{where}: roles must alternate between "user" and "assistant"')
        if turn.role == "user":
            answered = [id for id, _ in turn.results]
            need(set(answered) <= set(calls), f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {answered}")
            missing = set(calls) - set(answered)
            need(not missing, f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {missing}")
            turn.results = [text for _, text in turn.results]
        calls = turn.calls
    need(not calls, "messages: the conversation ends with a `tool_use` that has no result")
    # Thinking may not begin in the middle of a loop of tools, which is one turn of the model's to the vendor.
    prompt = max(index for index, turn in enumerate(turns) if turn.role == "user" and not turn.results)
    if thinks and len(turns) > prompt + 1:
        found = "a final `assistant` message must start with a thinking block"
        begins = turns[prompt + 1].begins_with_thinking
        need(begins, f"messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`: {found}")
    return turns


def check_request(body, counts):
    for field in set(body) - FIELDS:
        raise Refused(f"{field}: Extra inputs are not permitted")
    need(counts or isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
    system = body.get("system", [])
    for index, block in enumerate([] if isinstance(system, str) else system):
        block_text(block, f"system.{index}")
    names = []
    for index, tool in enumerate(body.get("tools", [])):
        need(re.fullmatch("[a-zA-Z0-9_-]{1,128}", tool["name"]), f"tools.{index}.custom.name: String should match pattern")
        need(tool["input_schema"].get("type") == "object", f"tools.{index}.custom.input_schema.type: Field required")
        names.append(tool["name"])
    choice = body.get("tool_choice", {})
    need(choice.get("type", "auto") in ("auto", "any", "tool", "none"), "tool_choice: Input tag does not match")
    need(not choice or names, "tool_choice: tools must be given")
    thinking = body.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        need(1024 <= thinking["budget_tokens"], "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        need(counts or thinking["budget_tokens"] < body["max_tokens"], "`max_tokens` must be greater than `thinking.budget_tokens`")
        need(body.get("temperature", 1) == 1, "`temperature` may only be set to 1 when thinking is enabled")
        need(choice.get("type", "auto") in ("auto", "none"), "Thinking may not be enabled when tool_choice forces tool use.")
    need("temperature" not in body or "top_p" not in body, "`temperature` and `top_p` cannot both be specified for this model.")
    need(0 <= body.get("temperature", 1) <= 1, "temperature: range: 0..1")
    return names, choice.get("name"), thinking["type"] != "disabled"


def blocks_of(said):
    blocks = []
    if said.reasoning:
        signature = sign("anthropic", said.reasoning)
        blocks.append({"type": "thinking", "thinking": said.reasoning, "signature": signature})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    for name, arguments in said.calls:
        blocks.append({"type": "tool_use", "id": f"toolu_{next(NUMBERS)}", "name": name, "input": arguments})
    return blocks


class Anthropic(Handler):
    def key(self):
        # Its own SDK for Python sends the key as a bearer token since version 2.
        if not self.headers["x-api-key"] and not self.headers.get("authorization", "").startswith("Bearer "):
            raise Refused("x-api-key header is required", 401)

    def get(self, path):
        self.key()
        if path != "/v1/models":
            raise Refused("Not found", 404)
        models = [{"type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z"} for id in MODELS]
        self.json({"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]})

    def post(self, path, body):
        self.key()
        need(self.headers["anthropic-version"] in VERSIONS, "anthropic-version: header is required")
        if path not in ("/v1/messages", "/v1/messages/count_tokens"):
            raise Refused("Not found", 404)
        self.fail_if_asked(body["model"])
        counts = path.endswith("count_tokens")
        tools, forced, thinks = check_request(body, counts)
        turns = turns_of(body, thinks)
        if counts:
            return self.json({"input_tokens": TOKENS.prompt})
        schema = body.get("output_config", {}).get("format") or body.get("output_format")
        said = script(turns, tools=tools, thinks=thinks, schema=schema, forced=forced)
        message = {
            "id": f"msg_{next(NUMBERS)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": blocks_of(said),
            "stop_reason": "tool_use" if said.calls else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        self.stream(message, said.cut) if body.get("stream") else self.json(message)

    def stream(self, message, cut):
        def send(kind, **fields):
            self.event({"type": kind, **fields}, kind)

        def delta(index, kind, field, texts):
            for text in texts:
                send("content_block_delta", index=index, delta={"type": kind, field: text})

        begun = {"content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        self.begin("text/event-stream; charset=utf-8")
        send("message_start", message={**message, **begun})
        for index, block in enumerate(message["content"]):
            empty = {name: "" for name in ("text", "thinking", "signature") if name in block}
            if block["type"] == "tool_use":
                empty["input"] = {}
            send("content_block_start", index=index, content_block={**block, **empty})
            send("ping")
            if block["type"] == "thinking":
                delta(index, "thinking_delta", "thinking", pieces(block["thinking"]))
                delta(index, "signature_delta", "signature", [block["signature"]])
            elif block["type"] == "text":
                delta(index, "text_delta", "text", pieces(block["text"]))
            else:
                delta(index, "input_json_delta", "partial_json", ["", *pieces(json.dumps(block["input"]))])
            if cut:
                return self.cut()
            send("content_block_stop", index=index)
        ended = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        send("message_delta", delta=ended, usage=USAGE)
        send("message_stop")
        self.end()

    def error_body(self, status, message, details):
        error = {"type": KINDS.get(status, "invalid_request_error"), "message": message}
        return {"type": "error", "error": error, "request_id": f"req_{next(NUMBERS)}"}


if __name__ == "__main__":
    serve(Anthropic)
