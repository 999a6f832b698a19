"""Acts like the Gemini API with a model of version 3; see base.py. Source: ai.google.dev/api/generate-content and
ai.google.dev/gemini-api/docs/thought-signatures, read 2026-11-24."""

import re

from base import NUMBERS, VECTOR, Handler, Refused, Turn, compact, media_type, need, pieces, script, serve, sign, usage_of

TOKENS = usage_of("gemini")
USAGE = {
    "promptTokenCount": TOKENS.prompt,
    "cachedContentTokenCount": TOKENS.cached,
    "candidatesTokenCount": TOKENS.answer - TOKENS.reasoning,
    "thoughtsTokenCount": TOKENS.reasoning,
    "totalTokenCount": TOKENS.prompt + TOKENS.answer,
}
MODELS = ["gemini-3-standin", "gemini-embedding-001"]
REQUEST = set("model contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent labels".split())
CONFIG = set(
    "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount maxOutputTokens"
    " temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs thinkingConfig mediaResolution"
    " speechConfig imageConfig enableEnhancedCivicAnswers".split()
)
PART = set("text inlineData fileData functionCall functionResponse thought thoughtSignature executableCode codeExecutionResult".split())
DECLARATION = set("name description parameters parametersJsonSchema response responseJsonSchema behavior".split())
SCHEMA = set(
    "type format title description nullable enum maxItems minItems properties required minProperties maxProperties minLength"
    " maxLength pattern example anyOf propertyOrdering default items minimum maximum additionalProperties".split()
)
STATUSES = {
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    529: "UNAVAILABLE",
}
# What Google's page offers for calls that another model made.
DUMMIES = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")


# What is below these is the caller's own, not Google's.
OPAQUE = ("args", "response", "parametersJsonSchema", "responseJsonSchema", "enum", "default", "example")


def camel(value, named=False):
    """`value` with its fields in camelCase: Google takes either spelling, and its SDK for Python mixes them."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {}
    for name, inner in value.items():
        own = name if named else re.sub("_([a-z])", lambda match: match.group(1).upper(), name)
        fields[own] = inner if own in OPAQUE and not named else camel(inner, named=own == "properties" and not named)
    return fields


def known(fields, allowed, where):
    for field in set(fields) - allowed:
        raise Refused(f"Invalid JSON payload received. Unknown name \"{field}\" at '{where}': Cannot find field.")


def check_schema(schema, where):
    """`Schema` is no JSON Schema, but Google's choice of OpenAPI's."""
    known(schema, SCHEMA, where)
    need(isinstance(schema.get("type", ""), str), f"Proto field is not repeating, cannot start list at '{where}.type'")
    for name, inner in schema.get("properties", {}).items():
        check_schema(inner, f"{where}.properties[{name}]")
    if "items" in schema:
        check_schema(schema["items"], f"{where}.items")


def plain_base64(text):
    """`text` in the usual alphabet: Google takes either, and its SDK for Python writes the one for URLs."""
    return text.replace("-", "+").replace("_", "/")


def call_signature(call):
    return sign("gemini", compact([call["name"], call.get("args", {})]))


def result_text(response):
    need(isinstance(response, dict), "function_response.response: Proto field is not a message")
    for name in ("output", "result"):
        if isinstance(response.get(name), str):
            return response[name]
    return compact(response)


def turn_of(content, where):
    known(content, {"role", "parts"}, where)
    need(content.get("role") in ("user", "model"), "Please use a valid role: user, model.")
    turn = Turn("assistant" if content["role"] == "model" else "user")
    turn.names, turn.signed = [], False
    need(content.get("parts"), f"* GenerateContentRequest.{where}.parts: contents.parts must not be empty.")
    for index, part in enumerate(content["parts"]):
        at = f"{where}.parts[{index}]"
        known(part, PART, at)
        data = [name for name in part if name in ("text", "inlineData", "functionCall", "functionResponse")]
        need(len(data) == 1, f"* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field")
        if data == ["text"] and not part.get("thought"):
            turn.text += part["text"]
        elif data == ["inlineData"]:
            blob = part["inlineData"]
            need(media_type(plain_base64(blob["data"])) == blob["mimeType"], "Unable to process input image.")
            turn.image = blob["mimeType"]
        elif data == ["functionCall"]:
            call = part["functionCall"]
            need(isinstance(call.get("args", {}), dict), f"Proto field is not a message at '{at}.function_call.args'")
            if "thoughtSignature" in part:
                own = call_signature(call)
                given = part["thoughtSignature"]
                need(given in DUMMIES or plain_base64(given) == own, "Thought signature is not valid.")
                turn.signed |= not turn.calls
            turn.calls.append(call)
        elif data == ["functionResponse"]:
            turn.names.append(part["functionResponse"]["name"])
            turn.results.append(result_text(part["functionResponse"]["response"]))
    return turn


def turns_of(body):
    need(body.get("contents"), "* GenerateContentRequest.contents: contents is not specified")
    turns = [turn_of(content, f"contents[{index}]") for index, content in enumerate(body["contents"])]
    for index, turn in enumerate(turns):
        before = turns[index - 1].calls if index else []
        if turn.calls:
            need(index and turns[index - 1].role == "user", "Please ensure that function call turn comes immediately after a user turn or after a function response turn.")
        if turn.results or before:
            need(len(turn.results) == len(before), "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.")
            names = [call["name"] for call in before]
            need(sorted(names) == sorted(turn.names), f"Please ensure that the function responses {turn.names} are those of the calls {names}.")
    # Only the turns since the last prompt are checked for signatures.
    for turn in reversed(turns):
        if turn.role == "user" and turn.text:
            break
        if turn.calls:
            name = turn.calls[0]["name"]
            need(turn.signed, f"Function call is missing a thought_signature in functionCall parts. Function call `default_api:{name}`")
    return turns


def check_request(body):
    known(body, REQUEST, "")
    config = body.get("generationConfig", {})
    known(config, CONFIG, "generation_config")
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema:
        need(config.get("responseMimeType") == "application/json", "Response schema is supported only with application/json.")
        need("responseJsonSchema" not in config or "responseSchema" not in config, "Set only one of the schemas.")
        check_schema(config.get("responseSchema", {}), "generation_config.response_schema")
    thinking = config.get("thinkingConfig", {})
    need("thinkingBudget" not in thinking or "thinkingLevel" not in thinking, "You can only set only one of thinking budget and thinking level.")
    tools = []
    for index, tool in enumerate(body.get("tools", [])):
        known(tool, {"functionDeclarations", "googleSearch", "codeExecution", "urlContext"}, f"tools[{index}]")
        for declaration in tool.get("functionDeclarations", []):
            known(declaration, DECLARATION, f"tools[{index}].function_declarations")
            check_schema(declaration.get("parameters", {}), f"tools[{index}].function_declarations.parameters")
            tools.append(declaration["name"])
    choice = body.get("toolConfig", {}).get("functionCallingConfig", {})
    need(choice.get("mode", "AUTO") in ("AUTO", "ANY", "NONE", "VALIDATED"), "Invalid value at 'tool_config.function_calling_config.mode'")
    need("allowedFunctionNames" not in choice or choice["mode"] in ("ANY", "VALIDATED"), "allowed_function_names should be set only with mode ANY.")
    forced = choice.get("allowedFunctionNames", [None])[0]
    for part in body.get("systemInstruction", {}).get("parts", []):
        need(set(part) == {"text"}, "systemInstruction takes text only")
    return tools, forced, schema, thinking.get("includeThoughts", False)


def parts_of(said, shown, streamed):
    parts = []
    if said.reasoning and shown:
        parts.append({"text": said.reasoning, "thought": True})
    for text in pieces(said.text or "") if streamed else [said.text] if said.text else []:
        parts.append({"text": text})
    for index, (name, arguments) in enumerate(said.calls):
        call = {"name": name, "args": arguments}
        # Of calls at once only the first is signed. None has an id.
        signature = {} if index else {"thoughtSignature": call_signature(call)}
        parts.append({"functionCall": call, **signature})
    return parts


class Gemini(Handler):
    def key(self):
        if not (self.headers["x-goog-api-key"] or self.query.get("key")):
            raise Refused("Method doesn't allow unregistered callers.", 403)

    def get(self, path):
        self.key()
        # The list comes in pages: the second holds what the first did not.
        pages = {None: (MODELS, "next"), "next": (["gemini-3-standin-mini"], None)}
        need(path == "/v1beta/models" and self.query.get("pageToken") in pages, "no such page")
        names, token = pages[self.query.get("pageToken")]
        methods = ["generateContent", "countTokens"]
        models = [
            {"name": f"models/{name}", "version": "3", "displayName": name, "inputTokenLimit": 9000, "outputTokenLimit": 900,
             "supportedGenerationMethods": methods}
            for name in names
        ]  # fmt: skip
        self.json({"models": models, **({"nextPageToken": token} if token else {})})

    def post(self, path, body):
        self.key()
        body = camel(body)
        match = re.fullmatch(r"/v1(?:beta)?/models/([^:/]+):(\w+)", path)
        if not match:
            raise Refused("The requested URL was not found on this server.", 404)
        model, method = match.groups()
        self.fail_if_asked(model)
        if method == "countTokens":
            request = body.get("generateContentRequest", body)
            turns_of(request)
            self.json({"totalTokens": TOKENS.prompt})
        elif method == "embedContent":
            self.json({"embedding": {"values": self.vector(body)}})
        elif method == "batchEmbedContents":
            named = all(request["model"] == f"models/{model}" for request in body["requests"])
            need(named, "* BatchEmbedContentsRequest.requests[0].model: unexpected model name format")
            self.json({"embeddings": [{"values": self.vector(request)} for request in body["requests"]]})
        elif method in ("generateContent", "streamGenerateContent"):
            self.generate(model, body, method == "streamGenerateContent")
        else:
            raise Refused(f"{method} is not found", 404)

    def vector(self, request):
        need(any(part.get("text") for part in request["content"]["parts"]), "content contains an empty Part.")
        return VECTOR

    def generate(self, model, body, streamed):
        tools, forced, schema, shown = check_request(body)
        said = script(turns_of(body), tools=tools, thinks=True, schema=schema, forced=forced)
        frame = {"modelVersion": model, "responseId": f"r{next(NUMBERS)}"}
        parts = parts_of(said, shown, streamed)

        def answer(parts, **more):
            return {"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0, **more}], "usageMetadata": USAGE, **frame}

        if not streamed:
            return self.json(answer(parts, finishReason="STOP"))
        frames = [answer([part]) for part in parts]
        if not said.cut:
            frames.append(answer([{"text": ""}], finishReason="STOP"))
        sse = self.query.get("alt") == "sse"
        self.begin("text/event-stream" if sse else "application/json; charset=UTF-8")
        for index, value in enumerate(frames):
            self.write(f"data: {compact(value)}\r\n\r\n" if sse else f"{',' if index else '['}{compact(value)}")
        if said.cut:
            return self.cut()
        if not sse:
            self.write("]\n")
        self.end()

    def error_body(self, status, message, details):
        return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "INVALID_ARGUMENT")}}


if __name__ == "__main__":
    serve(Gemini)
