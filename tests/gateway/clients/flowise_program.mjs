// Flowise 3.1.4: `@langchain/openai` in the version its ChatOpenAI Custom node is pinned to, made as
// that node makes it (base path under `configuration`, numbers parsed from its form).

import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, assert, told, words } from "./telling.mjs";

// With `streaming` on, this version counts tokens itself, by a file it fetches from the internet;
// without one it tries for a minute, then guesses. Here it gets an empty file, and guesses at once.
const { fetch } = globalThis;
globalThis.fetch = async (asked, ...more) =>
  new globalThis.URL(asked.url ?? asked).origin === new globalThis.URL(URL).origin
    ? fetch(asked, ...more)
    : Response.json({});

const configuration = { baseURL: URL };
const node = (modelName, more = {}) => new ChatOpenAI({
  temperature: 0.9, modelName, openAIApiKey: KEY, apiKey: KEY, streaming: true, configuration, ...more,
});
const weather = tool(async () => ANSWER, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string(), days: z.number().int().optional() }),
});

await told({
  chat: async () => {
    const model = node(OWN, { streaming: false, maxTokens: parseInt("12", 10), topP: 0.9, frequencyPenalty: 0.1 });
    assert.equal(words((await model.invoke(QUESTION)).text), 12);
  },
  stream: async () => {
    let text = "";
    for await (const piece of await node(OWN, { maxTokens: 12 }).stream(QUESTION)) text += piece.text;
    assert.equal(words(text), 12);
  },
  tools: async () => {
    const model = node(API, { streaming: false }).bindTools([weather]);
    const asked = await model.invoke(QUESTION);
    assert.deepEqual(asked.tool_calls[0].args, CALLED);
    const result = new ToolMessage({ content: ANSWER, tool_call_id: asked.tool_calls[0].id });
    assert.ok((await model.invoke([new HumanMessage(QUESTION), asked, result])).text);
  },
  stream_tools: async () => {
    const asked = await node(API).bindTools([weather]).invoke(QUESTION);
    assert.deepEqual(asked.tool_calls[0].args, CALLED);
  },
  embeddings: async () => {
    const model = new OpenAIEmbeddings({ openAIApiKey: KEY, apiKey: KEY, modelName: VECTORS, configuration });
    assert.deepEqual((await model.embedDocuments(["a sea", "a poem"])).map((one) => one.length), [8, 8]);
  },
});
