// The official OpenAI SDK for JavaScript, unmodified, over providers of every dialect: chat and Responses.
// ../python/test_openai_any.py and test_openai_responses.py go further; openai.test.mjs has the real llama-server.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ADA, CITY, STEP, TASKS, TEXT, TOKEN } from "./standins.mjs";
import { failure, gather, providers, runTool, urlOf } from "./standins.mjs";

const client = new OpenAI({ baseURL: `${urlOf("openai")}/v1`, apiKey: TOKEN, maxRetries: 0, timeout: 60_000 });
const Person = z.object({ name: z.string(), age: z.number() });
const FUNCTIONS = [
  { name: "get_weather", description: "Weather", parameters: CITY },
  { name: "step", description: "Steps", parameters: STEP },
];
const CHAT_TOOLS = FUNCTIONS.map((own) => ({ type: "function", function: own }));
const TOOLS = FUNCTIONS.map((own) => ({ type: "function", strict: false, ...own }));
const user = (content) => [{ role: "user", content }];

async function chat(streamed, asked) {
  const completion = streamed
    ? await client.chat.completions.stream(asked).finalChatCompletion()
    : await client.chat.completions.create(asked);
  return completion.choices[0];
}

function respond(streamed, asked) {
  return streamed ? client.responses.stream(asked).finalResponse() : client.responses.create(asked);
}

for (const { name, model, failing, usage } of providers("openai")) {
  for (const streamed of [false, true]) {
    const how = `${name}, ${streamed ? "streamed" : "whole"}`;

    for (const [task, { turns, answer }] of Object.entries(TASKS)) {
      test(`chat, agent loop "${task}": ${how}`, async () => {
        const messages = user(`Please: ${task}`);
        const asked = { model, messages, tools: CHAT_TOOLS, reasoning_effort: "high" };
        for (const expected of turns) {
          const { message, finish_reason } = await chat(streamed, asked);
          assert.deepEqual([finish_reason, message.tool_calls.length], ["tool_calls", expected]);
          messages.push(message);
          for (const { id, function: called } of message.tool_calls) {
            messages.push({ role: "tool", tool_call_id: id, content: runTool(called.name, called.arguments) });
          }
        }
        assert.equal((await chat(streamed, asked)).message.content, answer);
      });

      test(`responses, agent loop "${task}": ${how}`, async () => {
        let input = user(`Please: ${task}`);
        const reasoning = { effort: "high", summary: "auto" };
        const asked = { model, tools: TOOLS, reasoning, store: false, include: ["reasoning.encrypted_content"] };
        for (const expected of turns) {
          const { output } = await respond(streamed, { ...asked, input });
          const calls = output.filter((item) => item.type === "function_call");
          assert.equal(calls.length, expected);
          const results = calls.map((call) => ({
            type: "function_call_output",
            call_id: call.call_id,
            output: runTool(call.name, call.arguments),
          }));
          const items = output.map(({ parsed_arguments, ...item }) => item);
          input = [...input, ...items, ...results];
        }
        assert.equal((await respond(streamed, { ...asked, input })).output_text, answer);
      });
    }

    test(`responses, text and usage: ${how}`, async () => {
      const reply = await respond(streamed, { model, input: "hello" });
      assert.equal(reply.output_text, TEXT);
      assert.deepEqual([reply.usage.input_tokens, reply.usage.output_tokens], [usage.prompt, usage.answer]);
    });

    test(`error classes: ${how}`, async () => {
      const fails = (status, kind) => failure(chat(streamed, { model: failing(status), messages: user("x") }), kind);
      assert.match((await fails(400, OpenAI.BadRequestError)).message, /as asked: 400/);
      await fails(404, OpenAI.NotFoundError);
      // A gateway that was told so a moment ago tells what is left of it.
      const after = (await fails(429, OpenAI.RateLimitError)).headers.get("retry-after");
      assert.ok(after >= 1 && after <= 7, after);
      await fails(500, OpenAI.InternalServerError);
    });
  }

  test(`chat, text and usage: ${name}`, async () => {
    const asked = { model, messages: user("hello") };
    const whole = await client.chat.completions.create(asked);
    assert.equal(whole.choices[0].message.content, TEXT);
    const options = { stream: true, stream_options: { include_usage: true } };
    const chunks = await gather(await client.chat.completions.create({ ...asked, ...options }));
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), TEXT);
    for (const told of [whole.usage, chunks.at(-1).usage]) {
      assert.deepEqual([told.prompt_tokens, told.completion_tokens], [usage.prompt, usage.answer]);
      assert.equal(told.prompt_tokens_details?.cached_tokens ?? 0, usage.cached);
    }
  });

  test(`parse gives an object: ${name}`, async () => {
    const response_format = zodResponseFormat(Person, "person");
    const completion = await client.chat.completions.parse({ model, messages: user("who?"), response_format });
    assert.deepEqual(completion.choices[0].message.parsed, ADA);
    const text = { format: zodTextFormat(Person, "person") };
    assert.deepEqual((await client.responses.parse({ model, input: "who?", text })).output_parsed, ADA);
  });

  test(`the SDK runs the tools by itself: ${name}`, async () => {
    const tool = {
      type: "function",
      function: { ...FUNCTIONS[0], function: ({ city }) => runTool("get_weather", { city }), parse: JSON.parse },
    };
    const runner = client.chat.completions.runTools({ model, messages: user("both cities"), tools: [tool] });
    assert.equal(await runner.finalContent(), TASKS["both cities"].answer);
  });

  test(`a stream that breaks off raises: ${name}`, async () => {
    let text = "";
    const read = async () => {
      const stream = await client.chat.completions.create({ model, messages: user("cut"), stream: true });
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
    };
    await failure(read());
    assert.equal(text, "Half of");
  });
}
