// Vercel's AI SDK: `@ai-sdk/openai` (chat and Responses) and `@ai-sdk/openai-compatible`.

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, assert, told, words } from "./telling.mjs";

const openai = createOpenAI({ baseURL: URL, apiKey: KEY });
const compatible = createOpenAICompatible({ name: "ballast", baseURL: URL, apiKey: KEY, includeUsage: true });
const once = { prompt: QUESTION, maxRetries: 0 };
let seen = [];
const tools = {
  weather: tool({
    description: "The weather of a city.",
    inputSchema: z.object({ city: z.string(), days: z.number().int().optional() }),
    execute: async (asked) => { seen.push(asked); return ANSWER; },
  }),
};

await told({
  chat: async () => {
    const found = await generateText({ model: openai.chat(OWN), maxOutputTokens: 12, ...once });
    assert.equal(words(found.text), 12);
    assert.equal(found.usage.outputTokens, 12);
    const other = await generateText({ model: compatible(OWN), maxOutputTokens: 12, ...once });
    assert.equal(other.text, found.text);
  },
  stream: async () => {
    for (const model of [openai.chat(OWN), compatible(OWN)]) {
      const found = streamText({ model, maxOutputTokens: 12, ...once });
      let text = "";
      for await (const piece of found.textStream) text += piece;
      assert.equal(words(text), 12);
      assert.equal((await found.usage).outputTokens, 12);
    }
  },
  tools: async () => {
    seen = [];
    const found = await generateText({ model: openai.chat(API), tools, stopWhen: stepCountIs(3), ...once });
    assert.deepEqual(seen, [CALLED]);
    assert.ok(found.text);
  },
  stream_tools: async () => {
    for (const model of [openai.chat(API), compatible(API)]) {
      seen = [];
      const found = streamText({ model, tools, stopWhen: stepCountIs(3), ...once });
      assert.ok(await found.text);
      assert.deepEqual(seen, [CALLED]);
    }
  },
  embeddings: async () => {
    const found = await embedMany({ model: openai.embedding(VECTORS), values: ["a sea", "a poem"] });
    assert.deepEqual(found.embeddings.map((one) => one.length), [8, 8]);
  },
  responses: async () => {
    const providerOptions = { openai: { store: false } };
    const found = await generateText({ model: openai(OWN), maxOutputTokens: 16, providerOptions, ...once });
    assert.equal(words(found.text), 16);
    const streamed = streamText({ model: openai(OWN), maxOutputTokens: 16, providerOptions, ...once });
    assert.equal(await streamed.text, found.text);
  },
});
