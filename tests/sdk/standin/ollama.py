"""Acts like Ollama, its own API and the part of OpenAI's that it has; see base.py. Source: github.com/ollama/ollama/blob/main/docs/api.md and our recordings of the real
server, read 2026-11-24."""

from base import NUMBERS, VECTOR, Refused, Turn, compact, media_type, need, pieces, script, serve, usage_of
from openai import Dialect, error_of

TOKENS = usage_of("ollama")
MODELS = ["ollama-standin"]
END = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 50_000_000,
    "load_duration": 1_000_000,
    "prompt_eval_count": TOKENS.prompt,
    "prompt_eval_duration": 20_000_000,
    "eval_count": TOKENS.answer,
    "eval_duration": 29_000_000,
}
DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "135M",
    "quantization_level": "Q4_1",
}
LISTED = [
    {"name": name, "model": name, "modified_at": "2026-11-24T10:00:00Z", "size": 9, "digest": "d" * 64, "details": DETAILS}
    for name in MODELS
]


def image_of(images):
    for image in images or []:
        need(isinstance(image, str) and media_type(image), "illegal base64 data at input byte 0")
    return media_type(images[0]) if images else None


def turn_of(message):
    role = message["role"]
    need(role in ("system", "user", "assistant", "tool"), f"invalid role: {role}")
    content = message.get("content", "")
    need(isinstance(content, str), "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string")
    turn = Turn("user" if role == "tool" else role)
    if role == "tool":
        turn.results.append(content)
    else:
        turn.text = content
    turn.image = image_of(message.get("images"))
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        need(isinstance(arguments, dict), "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments")
        turn.calls.append(call["function"]["name"])
    return turn


def turns_of(body):
    turns = [turn_of(message) for message in body.get("messages") or []]
    open_calls = 0
    for turn in turns:
        need(not turn.results or open_calls, "a tool message answers no call")
        open_calls = len(turn.calls) or open_calls - len(turn.results)
    return turns


def check_request(body):
    shape = body.get("format") or ""
    need(isinstance(shape, dict) or shape in ("", "json"), f'invalid format: {compact(shape)}; expected "json" or a JSON schema')
    think = body.get("think")
    need(think in (None, True, False, "low", "medium", "high", "max"), f'think value "{think}" is not supported')
    need(isinstance(body.get("options") or {}, dict), "json: cannot unmarshal options")
    return isinstance(shape, dict), bool(think)


class Ollama(Dialect):
    tokens = TOKENS
    reasoning_field = "reasoning"
    content_type = "application/json; charset=utf-8"

    def get(self, path):
        if path == "/api/version":
            self.json({"version": "0.99.0"})
        elif path == "/api/tags":
            self.json({"models": LISTED})
        elif path == "/api/ps":
            self.json({"models": [{**model, "expires_at": "2026-11-24T11:00:00Z", "size_vram": 9} for model in LISTED]})
        elif path == "/v1/models":
            self.json({"object": "list", "data": [{"id": id, "object": "model", "created": 1, "owned_by": "library"} for id in MODELS]})
        else:
            raise Refused("404 page not found", 404)

    def post(self, path, body):
        model = body.get("model") or body.get("name") or ""
        need(model, "model is required")
        self.fail_if_asked(model)
        if model.removesuffix(":latest") not in MODELS:
            raise Refused(f"model '{model}' not found", 404)
        compatible = {"/v1/chat/completions": self.chat, "/v1/completions": self.completions, "/v1/embeddings": self.embeddings}
        if path in compatible:
            compatible[path](body)
        elif path == "/api/chat":
            self.own_chat(body)
        elif path == "/api/generate":
            self.generate(body)
        elif path == "/api/embed":
            inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
            counts = {"total_duration": 5, "load_duration": 1, "prompt_eval_count": TOKENS.prompt}
            self.json({"model": model, "embeddings": [VECTOR for _ in inputs], **counts})
        elif path == "/api/show":
            info = {"general.architecture": "llama", "llama.context_length": 8192}
            capabilities = ["completion", "tools", "thinking", "vision"]
            self.json({"details": DETAILS, "model_info": info, "capabilities": capabilities, "template": "", "modelfile": "", "parameters": ""})
        else:
            raise Refused("404 page not found", 404)

    def own_chat(self, body):
        schema, thinks = check_request(body)
        turns = turns_of(body)
        tools = [tool["function"]["name"] for tool in body.get("tools") or []]
        if not turns:
            return self.loaded(body, message={"role": "assistant", "content": ""})
        said = script(turns, tools=tools, thinks=thinks, schema=schema)
        calls = [
            {"id": f"call_{next(NUMBERS)}", "function": {"index": index, "name": name, "arguments": arguments}}
            for index, (name, arguments) in enumerate(said.calls)
        ]

        def message(content="", **more):
            return {"message": {"role": "assistant", "content": content, **{name: value for name, value in more.items() if value}}}

        parts = [message(thinking=text) for text in pieces(said.reasoning or "")]
        parts += [message(text) for text in pieces(said.text or "")]
        parts += [message(tool_calls=[call]) for call in calls]
        self.answer(body, message(said.text or "", thinking=said.reasoning, tool_calls=calls), parts, message(), said.cut)

    def generate(self, body):
        schema, thinks = check_request(body)
        if not body.get("prompt"):
            return self.loaded(body, response="")
        turn = Turn("user", body["prompt"])
        turn.image = image_of(body.get("images"))
        said = script([turn], thinks=thinks, schema=schema)
        thinking = {"thinking": said.reasoning} if said.reasoning else {}
        parts = [{"response": "", "thinking": text} for text in pieces(said.reasoning or "")]
        parts += [{"response": text} for text in pieces(said.text)]
        self.answer(body, {"response": said.text, **thinking}, parts, {"response": ""}, said.cut)

    def loaded(self, body, **empty):
        reason = "unload" if body.get("keep_alive") == 0 else "load"
        self.json({**self.line(body), **empty, "done": True, "done_reason": reason})

    def line(self, body):
        return {"model": body["model"], "created_at": "2026-11-24T10:00:00.123456789Z"}

    def answer(self, body, whole, parts, last, cut):
        line = self.line(body)
        if body.get("stream", True) is False:
            return self.json({**line, **whole, **END})
        self.begin("application/x-ndjson")
        for part in parts:
            self.write(compact({**line, **part, "done": False}) + "\n")
        if cut:
            return self.cut()
        self.write(compact({**line, **last, **END}) + "\n")
        self.end()

    def error_body(self, status, message, details):
        return error_of(status, message, details) if self.path.startswith("/v1/") else {"error": message}


if __name__ == "__main__":
    serve(Ollama)
