// Vercel's AI SDK, unmodified, with its OpenAI (chat and Responses), Anthropic and Google providers as faces, each over
// model providers of every dialect.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ADA, PNG, TASKS, TEXT, TOKEN, MODELS } from "./standins.mjs";
import { failure, providers, runTool, urlOf } from "./standins.mjs";

const openai = createOpenAI({ baseURL: `${urlOf("openai")}/v1`, apiKey: TOKEN });
const anthropic = createAnthropic({ baseURL: `${urlOf("anthropic")}/v1`, apiKey: TOKEN });
const google = createGoogleGenerativeAI({ baseURL: `${urlOf("gemini")}/v1beta`, apiKey: TOKEN });
const FACES = [
  { face: "chat", dialect: "openai", of: (name) => openai.chat(name) },
  {
    face: "responses",
    dialect: "openai",
    of: (name) => openai.responses(name),
    thinking: { openai: { forceReasoning: true, reasoningEffort: "high", reasoningSummary: "auto" } },
  },
  {
    face: "anthropic",
    dialect: "anthropic",
    of: (name) => anthropic(name),
    thinking: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } },
  },
  {
    face: "google",
    dialect: "gemini",
    of: (name) => google(name),
    thinking: { google: { thinkingConfig: { includeThoughts: true, thinkingBudget: 2000 } } },
  },
];
const Person = z.object({ name: z.string(), age: z.number() });
const tools = {
  get_weather: tool({
    description: "Weather",
    inputSchema: z.object({ city: z.string() }),
    execute: (input) => runTool("get_weather", input),
  }),
  step: tool({
    description: "Steps",
    inputSchema: z.object({ n: z.number() }),
    execute: (input) => runTool("step", input),
  }),
};
// To Google it gives a tool's result as an object.
const plain = (text) => text.replace(/\{[^}]*"content": ?"([^"]*)"\}/g, "$1");
const stopWhen = stepCountIs(6);
const maxRetries = 0;

for (const { face, dialect, of, thinking } of FACES) {
  for (const { name, model, failing, usage } of providers(dialect)) {
    const how = `${face} over ${name}`;

    test(`text and usage, whole and streamed: ${how}`, async () => {
      const asked = { model: of(model), system: "Be brief.", prompt: "hello", maxRetries };
      const whole = await generateText(asked);
      const streamed = streamText(asked);
      for (const reply of [whole, streamed]) {
        assert.equal(await reply.text, TEXT);
        assert.equal(await reply.finishReason, "stop");
        const told = await reply.usage;
        assert.deepEqual([told.inputTokens, told.outputTokens], [usage.prompt, usage.answer]);
        assert.equal(told.cachedInputTokens ?? 0, usage.cached);
      }
    });

    for (const [task, { turns, answer }] of Object.entries(TASKS)) {
      for (const providerOptions of thinking ? [undefined, thinking] : [undefined]) {
        test(`agent loop "${task}"${providerOptions ? ", thinking" : ""}: ${how}`, async () => {
          const asked = { model: of(model), prompt: `Please: ${task}`, tools, stopWhen, maxRetries, providerOptions };
          for (const reply of [await generateText(asked), streamText({ ...asked, onError() {} })]) {
            assert.equal(face === "google" ? plain(await reply.text) : await reply.text, answer);
            const steps = await reply.steps;
            assert.deepEqual(steps.map((step) => step.toolCalls.length), [...turns, 0]);
            if (providerOptions) assert(steps[0].reasoningText, "no reasoning is shown");
          }
        });
      }
    }

    test(`an object by its schema: ${how}`, async () => {
      const { object } = await generateObject({ model: of(model), schema: Person, prompt: "who?", maxRetries });
      assert.deepEqual(object, ADA);
    });

    test(`vision: ${how}`, async () => {
      const content = [{ type: "text", text: "what is this?" }, { type: "image", image: PNG, mediaType: "image/png" }];
      const { text } = await generateText({ model: of(model), messages: [{ role: "user", content }], maxRetries });
      assert.equal(text, "I see an image of type image/png.");
    });

    test(`errors: ${how}`, async () => {
      for (const status of [400, 404, 429]) {
        const error = await failure(generateText({ model: of(failing(status)), prompt: "x", maxRetries }));
        assert(APICallError.isInstance(error), error);
        assert.deepEqual([error.statusCode, error.isRetryable], [status, status === 429]);
        // A gateway that was told so a moment ago tells what is left of it.
        const after = error.responseHeaders["retry-after"];
        if (status === 429) assert.ok(after >= 1 && after <= 7, after);
      }
      const error = await failure(generateText({ model: of(failing(500)), prompt: "x", maxRetries }));
      assert(APICallError.isInstance(error) && error.statusCode >= 500 && error.isRetryable);
    });

    test(`a stream that breaks off is an error: ${how}`, async () => {
      const errors = [];
      const { fullStream } = streamText({ model: of(model), prompt: "cut", maxRetries, onError: ({ error }) => errors.push(error) });
      let text = "";
      const read = async () => {
        for await (const part of fullStream) if (part.type === "text-delta") text += part.text;
      };
      await read().catch((error) => errors.push(error));
      assert.equal(text, "Half of");
      assert(errors.length > 0, "nobody was told");
    });
  }
}

test("embeddings", async () => {
  const model = openai.embedding(MODELS.openai);
  const { embeddings } = await embedMany({ model, values: ["a dog", "a cat"], maxRetries });
  assert.deepEqual(embeddings.map((vector) => vector.length), [3, 3]);
});
