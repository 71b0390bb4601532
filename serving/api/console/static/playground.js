// The same question to two targets at once, through the public listener, with the asker's own key.

import { figure, h, money, number, show } from "./dom.js";
import { t } from "./words.js";

const ask = { key: "", model: "", prompt: "", tokens: 256, left: null, right: "" };

export async function playground(context) {
  const seen = await context.fleet();
  ask.model ||= Object.keys(seen.models)[0] ?? "";
  ask.left ??= seen.models[ask.model]?.replicas?.length ? "own" : ""; // nobody is asked who is not there
  const field = (name, kind, more = {}) => h(kind, { ...more, name, oninput: (e) => { ask[name] = e.target.value; } });
  const choose = (name, values) => h("select", { name, onchange: (e) => { ask[name] = e.target.value; if (name === "model") context.again(); } },
    values.map(([value, label]) => h("option", { value, selected: ask[name] === value }, label)));
  const targets = [["", t("anywhere")], ["own", t("own")], ...(seen.models[ask.model]?.offerings ?? []).map((o) => [o.id, o.id])];
  const answers = h("div", { class: "answers" });
  const prompt = field("prompt", "textarea", { required: true, maxlength: 20000 });
  prompt.value = ask.prompt;
  const submit = (event) => {
    event.preventDefault();
    const prices = Object.fromEntries((seen.models[ask.model]?.offerings ?? []).map((o) => [o.id, o.price]));
    const panes = [ask.left, ask.right].map((target) => pane(target));
    show(answers, panes.map((one) => one.card));
    panes.forEach((one) => run(context, one, prices));
  };
  return [h("section", { class: "card" }, h("h3", {}, t("ask_title")), h("p", { class: "faint" }, t("ask_about")),
    h("form", { onsubmit: submit },
      h("div", { class: "row" },
        h("label", {}, t("api_key"), field("key", "input", { type: "password", autocomplete: "off", required: true, value: ask.key })),
        h("label", {}, t("model"), choose("model", Object.keys(seen.models).map((name) => [name, name]))),
        h("label", {}, t("left"), choose("left", targets)), h("label", {}, t("right"), choose("right", targets)),
        h("label", {}, t("max_tokens"), field("tokens", "input", { type: "number", min: 1, max: 8192, value: ask.tokens }))),
      h("label", {}, t("prompt"), prompt), h("p", {}, h("button", { class: "main" }, t("ask"))))), answers];
}
playground.isForm = true;

function pane(target) {
  const text = h("p", { "aria-live": "polite" }, t("answering"));
  const figures = h("div", { class: "figures" });
  const head = h("h3", {}, named(target));
  return { target, text, figures, head, card: h("section", { class: "card answer" }, head, text, figures) };
}

const named = (target) => (target === "own" ? t("own") : target || t("anywhere"));

async function run(context, one, prices) {
  const start = performance.now();
  const body = JSON.stringify({ key: ask.key, model: ask.model, target: one.target, prompt: ask.prompt, max_tokens: Number(ask.tokens) });
  let first = 0, said = "", usage = null;
  try {
    const reply = await context.call("/admin/v1/console/ask", { method: "POST", body, raw: true });
    const told = (reply.headers.get("x-ballast-target") ?? "").split(";");
    const where = told.at(-1), isOwn = told[0] === "local" || one.target === "own";
    one.head.textContent = `${named(one.target)}${where ? ` · ${t("served_by")} ${where}` : ""}`;
    for await (const event of events(reply.body)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const delta = event.choices?.[0]?.delta ?? {};
      const more = delta.content ?? delta.reasoning_content ?? "";
      if (more && !first) first = performance.now() - start;
      said += more;
      one.text.textContent = said || t("answering");
    }
    const price = prices[where] ?? prices[one.target];
    const whole = performance.now() - start;
    show(one.figures, figure(`${number(first / 1000)} s`, t("first_in")), figure(`${number(whole / 1000)} s`, t("done_in")),
      figure(number((usage?.completion_tokens ?? 0)), t("tokens")), figure(isOwn ? t("owned") : cost(price, usage), t("costs_about")));
  } catch (error) {
    one.text.textContent = `${t("refused")}: ${error.message}`;
    one.text.className = "bad";
  }
}

function cost(price, usage) {
  if (!price || !usage) return t("unknown"); // whose key is not told by whom
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const micro = ((usage.prompt_tokens - cached) * price.input_micro_per_mtok + cached * price.cached_micro_per_mtok + usage.completion_tokens * price.output_micro_per_mtok) / 1e6;
  return money(micro, price.currency);
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
