// The stand-ins behind the gateway, one for each dialect that a provider may speak, and what they say: see
// ../standin/base.py. The variables are those of ../python/providers.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export const MODELS = {
  anthropic: "claude-standin-4-5",
  gemini: "gemini-3-standin",
  ollama: "ollama-standin",
  openai: "gpt-standin",
};
const PREFIX = { anthropic: "claude", gemini: "gemini-3", ollama: "ollama", openai: "gpt" };
const USAGE = JSON.parse(readFileSync(new URL("../standin/usage.json", import.meta.url), "utf8"));

export const DIRECT = Boolean(process.env.HOOSH_DIRECT);
export const ONLY_HOOSH = { skip: DIRECT ? "only the gateway does this" : false };
export const TOKEN = required("HOOSH_TOKEN");

export const TEXT = "Hello from the model: häß 日本 😀.";
export const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
export const ADA = { name: "Ada", age: 36 };
export const PERSON = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const STEP = { type: "object", properties: { n: { type: "integer" } }, required: ["n"] };

/** What the model answers in the end, and with how many calls in each turn before. */
export const TASKS = {
  weather: { turns: [1], answer: "It is 21 degrees in Paris." },
  "both cities": { turns: [2], answer: "Paris: 21 degrees, Rome: 30 degrees." },
  "three steps": { turns: [1, 1, 1], answer: "Done: R1 R2 R3." },
};

/** What the tools of these tests give. */
export function runTool(name, input) {
  const { city, n } = typeof input === "string" ? JSON.parse(input) : input;
  return name === "step" ? `R${n}` : { Paris: "21 degrees", Rome: "30 degrees" }[city];
}

export function required(name) {
  const value = process.env[name];
  assert(value, `${name} is not set; run these tests by tests/sdk/run.sh`);
  return value;
}

/** Where an SDK of `dialect` finds its server. */
export function urlOf(dialect) {
  return required(DIRECT ? `HOOSH_STANDIN_${dialect.toUpperCase()}` : "HOOSH_URL");
}

/** The providers that an SDK of `dialect` is tried with: name, model and tokens of every answer. */
export function providers(dialect) {
  const names = DIRECT ? [dialect] : Object.keys(MODELS);
  return names.map((name) => ({
    name,
    model: MODELS[name],
    failing: (status) => `${PREFIX[name]}-error-${status}`,
    usage: USAGE[name],
  }));
}

export async function gather(stream) {
  const all = [];
  for await (const item of stream) all.push(item);
  return all;
}

/** The error that `promise` is rejected with, which must be of class `kind`. */
export async function failure(promise, kind = Error) {
  const outcome = await promise.then(
    () => assert.fail(`succeeded, where ${kind.name} was expected`),
    (error) => error,
  );
  assert(outcome instanceof kind, `${kind.name} was expected, not ${outcome}`);
  return outcome;
}
