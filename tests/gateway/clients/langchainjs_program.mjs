// LangChain.js: `ChatOpenAI`, an agent with a tool, `OpenAIEmbeddings`. Flowise's nodes are these.

import { createAgent, tool } from "langchain";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, assert, told, words } from "./telling.mjs";

const at = { apiKey: KEY, maxRetries: 0, configuration: { baseURL: URL } };
let seen = [];
const weather = tool(async (asked) => { seen.push(asked); return ANSWER; }, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string(), days: z.number().int().optional() }),
});

await told({
  chat: async () => {
    const found = await new ChatOpenAI({ model: OWN, maxTokens: 12, ...at }).invoke(QUESTION);
    assert.equal(words(found.text), 12);
    assert.equal(found.usage_metadata.output_tokens, 12);
  },
  stream: async () => {
    let text = "", tokens = 0;
    for await (const piece of await new ChatOpenAI({ model: OWN, maxTokens: 12, ...at }).stream(QUESTION)) {
      text += piece.text;
      tokens += piece.usage_metadata?.output_tokens ?? 0;
    }
    assert.equal(words(text), 12);
    assert.equal(tokens, 12);
  },
  tools: async () => {
    seen = [];
    const agent = createAgent({ model: new ChatOpenAI({ model: API, ...at }), tools: [weather] });
    const found = await agent.invoke({ messages: [{ role: "user", content: QUESTION }] });
    assert.deepEqual(seen, [CALLED]);
    assert.ok(found.messages.at(-1).text);
  },
  stream_tools: async () => {
    let whole;
    const model = new ChatOpenAI({ model: API, ...at }).bindTools([weather]);
    for await (const piece of await model.stream(QUESTION)) whole = whole ? whole.concat(piece) : piece;
    assert.deepEqual(whole.tool_calls[0].args, CALLED);
  },
  embeddings: async () => {
    const found = await new OpenAIEmbeddings({ model: VECTORS, ...at }).embedDocuments(["a sea", "a poem"]);
    assert.deepEqual(found.map((one) => one.length), [8, 8]);
  },
});
