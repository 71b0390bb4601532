// Flowise's own nodes, as its archive has them: its chat models and embeddings as its canvas fills
// them in, and its LLM and Agent nodes (agentflow), which its server runs with what is in `flow`.

import { createRequire } from "node:module";
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
import { ANSWER, API, CALLED, KEY, OWN, QUESTION, URL, VECTORS, assert, told, words } from "./telling.mjs";

process.env.HTTP_SECURITY_CHECK = "false"; // as docs/clients/flowise.md says: else no private address

// With `streaming` on, this version counts tokens itself, by a file it fetches from the internet;
// without one it tries for a minute, then guesses. Here it gets an empty file, and guesses at once.
const { fetch } = globalThis;
globalThis.fetch = async (asked, ...more) =>
  new globalThis.URL(asked.url ?? asked).origin === new globalThis.URL(URL).origin
    ? fetch(asked, ...more)
    : Response.json({});

const require = createRequire(import.meta.url);
const folder = require.resolve("flowise-components").replace(/dist.src.index\.js$/, "dist/nodes/");
const files = {
  chatOpenAI: "chatmodels/ChatOpenAI/ChatOpenAI.js",
  chatOpenAICustom: "chatmodels/ChatOpenAICustom/ChatOpenAICustom.js",
  openAIEmbeddings: "embeddings/OpenAIEmbedding/OpenAIEmbedding.js",
  openAIEmbeddingsCustom: "embeddings/OpenAIEmbeddingCustom/OpenAIEmbeddingCustom.js",
  llm: "agentflow/LLM/LLM.js",
  agent: "agentflow/Agent/Agent.js",
  customTool: "tools/CustomTool/CustomTool.js",
};
const componentNodes = Object.fromEntries(Object.entries(files).map(([n, f]) => [n, { filePath: folder + f }]));
const node = (name) => new (require(folder + files[name]).nodeClass)();
// Numbers are words in its forms; the credential is where an import of a flow puts it.
const inputs = (modelName, more = {}) => ({
  modelName, openAIApiKey: KEY, basepath: URL, temperature: "0.9", ...more,
});
const made = (name, modelName, more) => node(name).init({ id: "n", inputs: inputs(modelName, more) }, "", {});

const SCHEMA = [
  { property: "city", type: "string", description: "where", required: true },
  { property: "days", type: "number", description: "how many", required: false },
];
const kept = { name: "weather", description: "The weather of a city.", schema: JSON.stringify(SCHEMA), func: `return "${ANSWER}"` };
const flow = (sent) => ({
  componentNodes, databaseEntities: {}, agentflowRuntime: { state: {}, chatHistory: [] },
  pastChatHistory: [], prependedChatHistory: [], chatId: "c", sessionId: "s", isLastNode: true,
  appDataSource: { getRepository: () => ({ findOneBy: async () => kept, find: async () => [] }) },
  sseStreamer: new Proxy({}, {
    get: (_, name) => (chat, piece) => name === "streamTokenEvent" && sent.push(piece),
  }),
});

const weather = tool(async () => ANSWER, {
  name: "weather",
  description: "The weather of a city.",
  schema: z.object({ city: z.string(), days: z.number().int().optional() }),
});

await told({
  chat: async () => {
    const model = await made("chatOpenAICustom", OWN, {
      streaming: false, maxTokens: "12", topP: "0.9", frequencyPenalty: "0.1", presencePenalty: "0.1", timeout: "60000",
    });
    assert.equal(words((await model.invoke(QUESTION)).text), 12);
  },
  stream: async () => {
    let text = "";
    const model = await made("chatOpenAICustom", OWN, { maxTokens: "12" });
    for await (const piece of await model.stream(QUESTION)) text += piece.text;
    assert.equal(words(text), 12);
  },
  tools: async () => {
    const model = (await made("chatOpenAICustom", API, { streaming: false })).bindTools([weather]);
    const asked = await model.invoke(QUESTION);
    assert.deepEqual(asked.tool_calls[0].args, CALLED);
    const result = new ToolMessage({ content: ANSWER, tool_call_id: asked.tool_calls[0].id });
    assert.ok((await model.invoke([new HumanMessage(QUESTION), asked, result])).text);
  },
  stream_tools: async () => {
    const asked = await (await made("chatOpenAICustom", API)).bindTools([weather]).invoke(QUESTION);
    assert.deepEqual(asked.tool_calls[0].args, CALLED);
  },
  embeddings: async () => {
    for (const name of ["openAIEmbeddingsCustom", "openAIEmbeddings"]) {
      for (const encodingFormat of [undefined, "float"]) { // with "base64" it keeps the text, of any server
        const model = await made(name, VECTORS, { stripNewLines: true, batchSize: "1", encodingFormat });
        assert.deepEqual((await model.embedDocuments(["a sea", "a poem"])).map((one) => one.length), [8, 8]);
      }
    }
  },
  chat_openai_node: async () => {
    const model = await made("chatOpenAI", OWN, { maxTokens: "12", stopSequence: "Observation:, END", strictToolCalling: true });
    assert.equal(words((await model.invoke(QUESTION)).text), 12);
  },
  llm_node: async () => {
    for (const llmModel of ["chatOpenAICustom", "chatOpenAI"]) {
      const sent = [];
      const nodeData = { id: "llm", inputs: {
        llmModel, llmModelConfig: inputs(OWN, { maxTokens: "12" }), llmMessages: [{ role: "system", content: "be brief" }],
      } };
      const { output } = await node("llm").run(nodeData, QUESTION, flow(sent));
      assert.equal(words(output.content), 12);
      assert.equal(sent.join(""), output.content);
      assert.equal(output.usageMetadata.output_tokens, 12);
    }
  },
  agent_node: async () => {
    const sent = [];
    const agentTools = [{ agentSelectedTool: "customTool", agentSelectedToolConfig: { selectedTool: "t" } }];
    const nodeData = { id: "agent", inputs: {
      agentModel: "chatOpenAICustom", agentModelConfig: inputs(API), agentTools, agentMessages: [],
    } };
    const { output } = await node("agent").run(nodeData, QUESTION, flow(sent));
    assert.deepEqual(output.usedTools[0].toolInput, CALLED);
    assert.equal(output.usedTools[0].toolOutput, ANSWER);
    assert.equal(sent.join(""), output.content);
    assert.ok(output.content);
  },
});
