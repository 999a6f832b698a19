// The official Anthropic SDK for JavaScript, unmodified, over providers of every dialect.
// ../python/test_anthropic.py goes further; this suite holds what differs by client.

import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { ADA, CITY, ONLY_HOOSH, MODELS, PERSON, PNG, STEP, TASKS, TEXT, TOKEN } from "./standins.mjs";
import { failure, gather, providers, runTool, urlOf } from "./standins.mjs";

const options = { baseURL: urlOf("anthropic"), apiKey: TOKEN, maxRetries: 0, timeout: 60_000 };
const client = new Anthropic(options);
const TOOLS = [
  { name: "get_weather", description: "Weather", input_schema: CITY },
  { name: "step", description: "Steps", input_schema: STEP },
];
const THINKING = { type: "enabled", budget_tokens: 2000 };
const user = (content) => [{ role: "user", content }];

function ask(streamed, parameters) {
  const asked = { max_tokens: 4096, ...parameters };
  return streamed ? client.messages.stream(asked).finalMessage() : client.messages.create(asked);
}

for (const { name, model, failing, usage } of providers("anthropic")) {
  for (const streamed of [false, true]) {
    const how = `${name}, ${streamed ? "streamed" : "whole"}`;

    test(`text and usage: ${how}`, async () => {
      const reply = await ask(streamed, { model, system: "Be brief.", messages: user("hello") });
      assert.deepEqual(reply.content.map((block) => block.text), [TEXT]);
      assert.equal(reply.stop_reason, "end_turn");
      assert.equal(reply.usage.input_tokens, usage.prompt - usage.cached - usage.written);
      assert.equal(reply.usage.cache_read_input_tokens ?? 0, usage.cached);
      assert.equal(reply.usage.output_tokens, usage.answer);
    });

    for (const [task, { turns, answer }] of Object.entries(TASKS)) {
      test(`agent loop "${task}": ${how}`, async () => {
        const messages = user(`Please: ${task}`);
        const asked = { model, tools: TOOLS, thinking: THINKING, messages };
        for (const expected of turns) {
          const reply = await ask(streamed, asked);
          const calls = reply.content.filter((block) => block.type === "tool_use");
          assert.deepEqual([reply.stop_reason, calls.length], ["tool_use", expected]);
          messages.push({ role: "assistant", content: reply.content });
          messages.push(
            ...user(calls.map(({ id, name, input }) => ({ type: "tool_result", tool_use_id: id, content: runTool(name, input) }))),
          );
        }
        assert.equal((await ask(streamed, asked)).content.at(-1).text, answer);
      });
    }

    test(`thinking: ${how}`, async () => {
      const { content } = await ask(streamed, { model, messages: user("think"), thinking: THINKING });
      assert.deepEqual(content.map((block) => block.thinking ?? block.text), ["Let me think.", "42."]);
    });

    test(`error classes: ${how}`, async () => {
      const fails = (status, kind) => failure(ask(streamed, { model: failing(status), messages: user("x") }), kind);
      assert.match((await fails(400, Anthropic.BadRequestError)).message, /as asked: 400/);
      await fails(404, Anthropic.NotFoundError);
      // A gateway that was told so a moment ago tells what is left of it.
      const after = (await fails(429, Anthropic.RateLimitError)).headers.get("retry-after");
      assert.ok(after >= 1 && after <= 7, after);
      await fails(500, Anthropic.InternalServerError);
    });
  }

  test(`structured output and vision: ${name}`, async () => {
    const format = { type: "json_schema", schema: PERSON };
    const person = await ask(false, { model, messages: user("who?"), output_config: { format } });
    assert.deepEqual(JSON.parse(person.content[0].text), ADA);
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: PNG } };
    const seen = await ask(false, { model, messages: user([image, { type: "text", text: "what is this?" }]) });
    assert.equal(seen.content[0].text, "I see an image of type image/png.");
  });

  test(`a stream that breaks off raises: ${name}`, async () => {
    const stream = client.messages.stream({ model, max_tokens: 99, messages: user("cut") });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    await failure(stream.finalMessage());
    assert.equal(text, "Half of");
  });
}

test("models of all providers are listed", ONLY_HOOSH, async () => {
  const names = (await gather(client.models.list())).map((model) => model.id);
  for (const model of Object.values(MODELS)) assert(names.includes(model), `${model} is not among ${names}`);
});

test("a wrong key is an authentication error", ONLY_HOOSH, async () => {
  const wrong = new Anthropic({ ...options, apiKey: "not-the-token" });
  await failure(wrong.messages.create({ model: MODELS.gemini, max_tokens: 9, messages: user("x") }), Anthropic.AuthenticationError);
});
