// The official OpenAI SDK for JavaScript, unmodified, against hoosh in front of a real llama-server.
//
// What is checked and why the assertions are as they are: see ../python/test_openai.py, which goes further. This suite
// holds what differs by client: Node's own HTTP stack, `for await`, AbortController, and this SDK's error classes.
// The variables it reads are those of ../python/conftest.py, and HOOSH_DIRECT: set by run.sh --direct, where there is no
// gateway, it skips what only the gateway does.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const CHAT_MODEL = process.env.HOOSH_CHAT_MODEL ?? "smollm2-135m";
const EMBED_MODEL = process.env.HOOSH_EMBED_MODEL ?? "all-minilm";
const GATEWAY_URL = required("HOOSH_URL");
const LLAMA_URL = required("HOOSH_LLAMA_URL");
const EMBED_URL = process.env.HOOSH_EMBED_URL ?? GATEWAY_URL;
const ONLY_HOOSH = { skip: process.env.HOOSH_DIRECT ? "only the gateway does this" : false };

function required(name) {
  const value = process.env[name];
  assert(value, `${name} is not set; run these tests by tests/sdk/run.sh`);
  return value;
}

function connect(url, changes = {}) {
  // No retries: what the SDK would hide by trying again is what these tests look for.
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: required("HOOSH_TOKEN"), timeout: 60_000, maxRetries: 0, ...changes });
}

const client = connect(GATEWAY_URL);
const embedder = connect(EMBED_URL);

const user = (content) => [{ role: "user", content }];

function chat(parameters = {}, options = {}, on = client) {
  const messages = user("What is the capital of France?");
  return on.chat.completions.create({ model: CHAT_MODEL, messages, temperature: 0, max_tokens: 32, ...parameters }, options);
}

async function gather(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const text = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

/** Which slots of the real llama-server are at work right now. */
async function busySlots() {
  const reply = await fetch(`${LLAMA_URL}/slots`, { signal: AbortSignal.timeout(5_000) });
  return (await reply.json()).filter((slot) => slot.is_processing).map((slot) => slot.id);
}

async function becomesIdle(boundMs) {
  const end = performance.now() + boundMs;
  for (let busy; (busy = await busySlots()).length > 0; await sleep(50)) {
    assert(performance.now() < end, `slots ${busy} still work after ${boundMs} ms`);
  }
}

/** The error that `promise` is rejected with, which must be of class `kind`. */
async function failure(promise, kind) {
  const outcome = await promise.then(
    () => assert.fail(`succeeded, where ${kind.name} was expected`),
    (error) => error,
  );
  assert(outcome instanceof kind, `${kind.name} was expected, not ${outcome}`);
  return outcome;
}

// --- what works ---

test("models of all providers are listed and can be retrieved", ONLY_HOOSH, async () => {
  const ids = (await gather(client.models.list())).map((model) => model.id);
  assert(ids.includes(CHAT_MODEL) && ids.includes(EMBED_MODEL), `only ${ids}`);
  assert.equal((await client.models.retrieve(CHAT_MODEL)).id, CHAT_MODEL);
});

test("chat knows a fact and counts its tokens", async () => {
  const { choices, usage } = await chat();
  assert.match(choices[0].message.content, /Paris/);
  assert.equal(choices[0].finish_reason, "stop");
  assert(usage.prompt_tokens > 5 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("a stream says the same as the whole answer", async () => {
  const chunks = await gather(await chat({ stream: true }));
  assert(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage), "a chunk or usage that nobody asked for");
  assert(chunks.filter((chunk) => chunk.choices[0].delta.content).length > 3, "the answer came in one piece");
  assert.equal(text(chunks), (await chat()).choices[0].message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

test("a stream ends with usage when asked", async () => {
  const chunks = await gather(await chat({ stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert(last.usage.prompt_tokens > 5 && last.usage.completion_tokens > 0);
  assert.equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens);
  assert(chunks.every((chunk) => chunk.choices.length === 1 && !chunk.usage));
});

const WEATHER = {
  messages: user("What is the weather in Paris?"),
  max_tokens: 80,
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "Get the current weather in a city",
        parameters: {
          type: "object",
          properties: { city: { type: "string", description: "City name" } },
          required: ["city"],
        },
      },
    },
  ],
};

test("a tool is called", async () => {
  const [{ message, finish_reason }] = (await chat(WEATHER)).choices;
  assert.equal(finish_reason, "tool_calls");
  assert.equal(message.tool_calls.length, 1);
  assert.equal(message.tool_calls[0].function.name, "get_weather");
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Paris" });
});

test("the SDK gathers a streamed tool call", async () => {
  const stream = client.chat.completions.stream({ model: CHAT_MODEL, temperature: 0, ...WEATHER });
  const [{ message, finish_reason }] = (await stream.finalChatCompletion()).choices;
  assert.equal(finish_reason, "tool_calls");
  assert(message.tool_calls[0].id);
  assert.equal(message.tool_calls[0].function.name, "get_weather");
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { city: "Paris" });
});

test("a batch of embeddings keeps its order; floats and base64 are the same", async () => {
  const input = ["A dog runs in the park", "Stock prices fell today"];
  const embed = (parameters) => embedder.embeddings.create({ model: EMBED_MODEL, input, ...parameters });
  const asked = await embed({ encoding_format: "float" });
  const byDefault = await embed(); // this SDK too asks for base64 and decodes it
  assert.deepEqual(asked.data.map((item) => item.index), [0, 1]);
  assert(asked.usage.prompt_tokens > 5);
  for (const [i, { embedding }] of asked.data.entries()) {
    assert.equal(embedding.length, 384);
    assert(embedding.every((value, j) => Math.abs(value - byDefault.data[i].embedding[j]) < 1e-5));
  }
  const dot = asked.data[0].embedding.reduce((sum, value, j) => sum + value * asked.data[1].embedding[j], 0);
  assert(Math.abs(dot - 0.022) < 0.02, `two unrelated sentences are ${dot} alike`);
});

test("headers say who answered", ONLY_HOOSH, async () => {
  const { response, request_id } = await chat({ max_tokens: 4 }).withResponse();
  assert.equal(response.headers.get("x-hoosh-provider"), "chat");
  assert.equal(response.headers.get("x-hoosh-attempts"), "1");
  assert(request_id);
});

// --- giving up ---

test("an abort in mid-stream stops the model", async () => {
  await becomesIdle(30_000); // what an earlier test left behind
  const controller = new AbortController();
  // 3,000 tokens take this model 20 s at its best: it cannot be idle in time because it was done.
  const endless = { messages: user("Count."), stream: true, max_tokens: 3000, ignore_eos: true };
  let seen = 0;
  for await (const _ of await chat(endless, { signal: controller.signal })) {
    if (++seen === 5) {
      assert((await busySlots()).length > 0, "the stream has begun, so a slot must be at work");
      controller.abort();
    }
    assert(seen < 1_000, "the abort did not end the stream");
  }
  assert(seen >= 5);
  await becomesIdle(2_500); // 1 s, and the rest for a machine with other things to do
});

test("leaving a for await loop stops the model", async () => {
  await becomesIdle(30_000);
  for await (const _ of await chat({ messages: user("Count."), stream: true, max_tokens: 3000, ignore_eos: true })) {
    assert((await busySlots()).length > 0);
    break;
  }
  await becomesIdle(2_500);
});

test("a client that gives up leaves the gateway well", async () => {
  await failure(chat({}, { timeout: 1 }), OpenAI.APIConnectionTimeoutError);
  const long = { messages: user("Count."), max_tokens: 300, ignore_eos: true };
  await failure(chat(long, { timeout: 500 }), OpenAI.APIConnectionTimeoutError); // in the midst of an answer
  assert.match((await chat()).choices[0].message.content, /Paris/);
});

// --- what goes wrong, as the SDK's own error classes ---

test("a wrong key is an authentication error", ONLY_HOOSH, async () => {
  const error = await failure(chat({}, {}, connect(GATEWAY_URL, { apiKey: "not-the-token" })), OpenAI.AuthenticationError);
  assert.equal(error.status, 401);
  assert.equal(error.code, "invalid_api_key");
});

test("an unknown model is not found and a near name is offered", ONLY_HOOSH, async () => {
  // One letter short, so that it fits none of the patterns of the providers.
  const error = await failure(chat({ model: CHAT_MODEL.replace("ll", "l") }), OpenAI.NotFoundError);
  assert.equal(error.code, "model_not_found");
  assert(error.message.includes(CHAT_MODEL), error.message);
});

test("messages of the wrong type are a bad request that names the field", async () => {
  const error = await failure(chat({ messages: "hello" }), OpenAI.BadRequestError);
  assert.match(error.message, /messages/);
});
