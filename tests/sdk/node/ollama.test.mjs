// The official Ollama client for JavaScript, unmodified, over providers of every dialect; see ../python/test_ollama.py.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ollama } from "ollama";
import { ADA, CITY, MODELS, ONLY_HOOSH, PERSON, PNG, STEP, TASKS, TEXT, TOKEN } from "./standins.mjs";
import { failure, gather, providers, runTool, urlOf } from "./standins.mjs";

const client = new Ollama({ host: urlOf("ollama"), headers: { authorization: `Bearer ${TOKEN}` } });
const TOOLS = [
  { type: "function", function: { name: "get_weather", description: "Weather", parameters: CITY } },
  { type: "function", function: { name: "step", description: "Steps", parameters: STEP } },
];
const user = (content, more = {}) => [{ role: "user", content, ...more }];

/** Text, thinking and calls of the answer, and its last line. */
async function chat(stream, asked) {
  const lines = stream ? await gather(await client.chat({ ...asked, stream })) : [await client.chat(asked)];
  const joined = (field) => lines.map((line) => line.message[field] ?? "").join("");
  const calls = lines.flatMap((line) => line.message.tool_calls ?? []);
  return { text: joined("content"), thinking: joined("thinking"), calls, last: lines.at(-1) };
}

for (const { name, model, failing, usage } of providers("ollama")) {
  for (const streamed of [false, true]) {
    const how = `${name}, ${streamed ? "streamed" : "whole"}`;

    test(`text and usage: ${how}`, async () => {
      const { text, last } = await chat(streamed, { model, messages: user("hello") });
      assert.deepEqual([text, last.done, last.done_reason], [TEXT, true, "stop"]);
      assert.deepEqual([last.prompt_eval_count, last.eval_count], [usage.prompt, usage.answer]);
    });

    for (const [task, { turns, answer }] of Object.entries(TASKS)) {
      test(`agent loop "${task}": ${how}`, async () => {
        const messages = user(`Please: ${task}`);
        const asked = { model, messages, tools: TOOLS, think: "high" };
        for (const expected of turns) {
          const { text, thinking, calls } = await chat(streamed, asked);
          assert.equal(calls.length, expected);
          messages.push({ role: "assistant", content: text, thinking, tool_calls: calls });
          for (const { function: called } of calls) {
            messages.push({ role: "tool", tool_name: called.name, content: runTool(called.name, called.arguments) });
          }
        }
        assert.equal((await chat(streamed, asked)).text, answer);
      });
    }

    test(`thinking: ${how}`, async () => {
      const { thinking, text } = await chat(streamed, { model, messages: user("think"), think: "high" });
      assert.deepEqual([thinking, text], ["Let me think.", "42."]);
    });

    test(`errors: ${how}`, async () => {
      for (const status of [400, 404, 429]) {
        const error = await failure(chat(streamed, { model: failing(status), messages: user("x") }));
        assert.equal(error.status_code, status);
      }
    });
  }

  test(`structured output, vision and generate: ${name}`, async () => {
    assert.deepEqual(JSON.parse((await chat(false, { model, messages: user("who?"), format: PERSON })).text), ADA);
    const { text } = await chat(false, { model, messages: user("what is this?", { images: [PNG] }) });
    assert.equal(text, "I see an image of type image/png.");
    assert.equal((await client.generate({ model, prompt: "hello" })).response, TEXT);
  });

  test(`a stream that breaks off raises: ${name}`, async () => {
    let text = "";
    const read = async () => {
      for await (const line of await client.chat({ model, messages: user("cut"), stream: true })) text += line.message.content;
    };
    await failure(read());
    assert.equal(text, "Half of");
  });
}

test("models of all providers are listed", ONLY_HOOSH, async () => {
  const names = (await client.list()).models.map((model) => model.name);
  for (const model of Object.values(MODELS)) assert(names.includes(model), `${model} is not among ${names}`);
});
