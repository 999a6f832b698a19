// The official Google Gen AI SDK for JavaScript, unmodified, over providers of every dialect.
// ../python/test_google.py goes further; this one asks for v1beta and writes camelCase.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, FunctionCallingConfigMode, GoogleGenAI } from "@google/genai";
import { ADA, CITY, MODELS, ONLY_HOOSH, PERSON, PNG, STEP, TASKS, TEXT, TOKEN } from "./standins.mjs";
import { failure, gather, providers, runTool, urlOf } from "./standins.mjs";

const connect = (apiKey) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: urlOf("gemini"), timeout: 60_000 } });
const client = connect(TOKEN);
const TOOLS = [
  {
    functionDeclarations: [
      { name: "get_weather", description: "Weather", parametersJsonSchema: CITY },
      { name: "step", description: "Steps", parametersJsonSchema: STEP },
    ],
  },
];
const SHOWN = { includeThoughts: true, thinkingBudget: 2000 };

/** The parts of the answer, and its last frame. */
async function ask(streamed, asked) {
  const frames = streamed
    ? await gather(await client.models.generateContentStream(asked))
    : [await client.models.generateContent(asked)];
  return { parts: frames.flatMap((frame) => frame.candidates[0].content.parts ?? []), last: frames.at(-1) };
}

const said = (parts, thought = false) =>
  parts.filter((part) => Boolean(part.thought) === thought).map((part) => part.text ?? "").join("");

for (const { name, model, failing, usage } of providers("gemini")) {
  for (const streamed of [false, true]) {
    const how = `${name}, ${streamed ? "streamed" : "whole"}`;

    test(`text and usage: ${how}`, async () => {
      const config = { systemInstruction: "Be brief." };
      const { parts, last } = await ask(streamed, { model, contents: "hello", config });
      assert.equal(said(parts), TEXT);
      assert.equal(last.candidates[0].finishReason, "STOP");
      assert.equal(last.usageMetadata.promptTokenCount, usage.prompt);
      assert.equal(last.usageMetadata.cachedContentTokenCount ?? 0, usage.cached);
      assert.equal(last.usageMetadata.totalTokenCount, usage.prompt + usage.answer);
    });

    for (const [task, { turns, answer }] of Object.entries(TASKS)) {
      test(`agent loop "${task}": ${how}`, async () => {
        const contents = [{ role: "user", parts: [{ text: `Please: ${task}` }] }];
        const asked = { model, contents, config: { tools: TOOLS, thinkingConfig: SHOWN } };
        for (const expected of turns) {
          const { parts } = await ask(streamed, asked);
          const calls = parts.flatMap((part) => part.functionCall ?? []);
          assert.equal(calls.length, expected);
          contents.push({ role: "model", parts });
          const results = calls.map(({ id, name, args }) => ({
            functionResponse: { id, name, response: { output: runTool(name, args) } },
          }));
          contents.push({ role: "user", parts: results });
        }
        assert.equal(said((await ask(streamed, asked)).parts), answer);
      });
    }

    test(`thinking: ${how}`, async () => {
      const { parts } = await ask(streamed, { model, contents: "think", config: { thinkingConfig: SHOWN } });
      assert.deepEqual([said(parts, true), said(parts)], ["Let me think.", "42."]);
    });

    test(`errors: ${how}`, async () => {
      for (const status of [400, 404, 429]) {
        const error = await failure(ask(streamed, { model: failing(status), contents: "x" }), ApiError);
        assert.equal(error.status, status);
      }
      assert((await failure(ask(streamed, { model: failing(500), contents: "x" }), ApiError)).status >= 500);
    });
  }

  test(`structured output, a forced tool and vision: ${name}`, async () => {
    const config = { responseMimeType: "application/json", responseJsonSchema: PERSON };
    const person = await client.models.generateContent({ model, contents: "who?", config });
    assert.deepEqual(JSON.parse(person.text), ADA);
    const forced = await client.models.generateContent({
      model,
      contents: "who?",
      config: {
        tools: [{ functionDeclarations: [{ name: "person", description: "A person", parametersJsonSchema: PERSON }] }],
        toolConfig: { functionCallingConfig: { mode: FunctionCallingConfigMode.ANY, allowedFunctionNames: ["person"] } },
      },
    });
    assert.deepEqual(forced.functionCalls.map((call) => call.args), [ADA]);
    const contents = [{ role: "user", parts: [{ inlineData: { mimeType: "image/png", data: PNG } }, { text: "what is this?" }] }];
    assert.equal((await client.models.generateContent({ model, contents })).text, "I see an image of type image/png.");
  });

  test(`a stream that breaks off raises: ${name}`, async () => {
    let text = "";
    const read = async () => {
      for await (const frame of await client.models.generateContentStream({ model, contents: "cut" })) text += frame.text ?? "";
    };
    await failure(read());
    assert.equal(text, "Half of");
  });
}

test("models of all providers are listed", ONLY_HOOSH, async () => {
  const names = (await gather(await client.models.list())).map((model) => model.name);
  for (const model of Object.values(MODELS)) assert(names.includes(`models/${model}`), `${model} is not among ${names}`);
});

test("a wrong key is told", ONLY_HOOSH, async () => {
  const asked = { model: MODELS.ollama, contents: "x" };
  assert.equal((await failure(connect("not-the-token").models.generateContent(asked), ApiError)).status, 401);
});
