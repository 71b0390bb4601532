// One function per tab: asks what it needs and returns what is to be seen.

import { Amount, bar, clock, figure, h, money as worth, number, percent, seconds, spark, table } from "./dom.js";
import { tell } from "./telling.js";
import { t } from "./words.js";

export async function fleet(context) {
  const seen = await context.fleet();
  const away = Object.entries(seen.away);
  return [
    ...away.map(([name, why]) => h("p", { class: "bad" }, `${name}: ${why}`)),
    h("div", { class: "cards" }, Object.entries(seen.models).map(([name, model]) => card(name, model, seen.signals[name], context.history[name]))),
  ];
}

function card(name, model, signals, history) {
  const state = model.replicas.length ? h("span", { class: "pill good" }, `${t("replicas")}: ${model.replicas.length}`)
    : h("span", { class: "pill" }, model.offerings.length ? t("api_only") : t("none_ready"));
  return h("section", { class: "card" },
    h("h3", {}, name, " ", state),
    model.trouble && h("p", { class: "bad" }, `${t("trouble")}: ${model.trouble}`),
    model.expected_in_s !== null && h("p", { class: "faint" }, `${t("expected")} ${number(model.expected_in_s, 0)} s`),
    h("div", { class: "figures" },
      figure(number(signals.running), t("running"), "own"), figure(number(signals.queued), t("queued"), signals.queued ? "api" : ""),
      figure(`${number(signals.oldest_wait_s, 1)} s`, t("oldest")), figure(number(signals.burst_total), t("burst"), "api"),
      figure(number(signals.shed_total), t("shed"), signals.shed_total ? "bad" : "")),
    spark(history ?? {}, t("chart")),
    model.replicas.map((one) => h("div", { class: "faint" }, `${one.id} · ${t("kv")} ${percent(one.kv ?? 0)}`, bar([[one.running ?? 0, "own"], [one.waiting ?? 0, "api"], [Math.max(0, one.limit - (one.running ?? 0) - (one.waiting ?? 0)), "rest"]]))));
}

export async function decisions(context) {
  const [requests, control] = await Promise.all([context.call("/decisions?limit=60"), context.call("/admin/v1/console/control")]);
  const told = control.decisions.slice(0, 20).map((one) => [one.at_ms ? clock(one.at_ms) : "", one.model, did(one), one.replicas >= 0 ? one.replicas : null, tell(one.said, one.reason)]);
  const lines = requests.decisions.filter((one) => one.event === "request").map((one) => [
    clock(one.at_ms), one.alias || one.model, one.tenant, coded("outcome", one.outcome), one.target, coded("reason", one.reason),
    seconds(one.queue_ms), seconds(one.first_token_ms), seconds(one.total_ms), one.prompt_tokens + one.completion_tokens]);
  return [
    h("h2", {}, t("control_title")),
    control.away ? h("p", { class: "bad" }, `${t("control_away")} ${control.away}`)
      : table([t("at"), t("model"), t("decision"), t("wanted"), t("reason")], told, t("no_decisions")),
    h("h2", {}, t("requests_title")),
    table([t("at"), t("model"), t("tenant"), t("outcome"), t("target"), t("reason"), t("queue"), t("first"), t("whole"), t("tokens")], lines, t("no_decisions")),
  ];
}

// In words, with the code behind them; parts of a reason that have no word (a split's side) stay codes.
function coded(group, code) {
  const word = (part) => { const key = `${group}_${part}`, told = t(key); return told === key ? part : told; };
  const whole = word(code ?? "");
  const said = whole === code ? code.split("/").map(word).join(" / ") : whole;
  return code ? h("span", { title: code }, said) : null;
}

function did(one) {
  if (one.replicas === undefined) return one.decision; // of a controller before this field
  return one.replicas < 0 ? t("hold") : t("scale_to").replace("{}", number(one.replicas));
}

const day = (at) => `${at.getFullYear()}-${String(at.getMonth() + 1).padStart(2, "0")}-${String(at.getDate()).padStart(2, "0")}`;

export async function money(context) {
  const now = new Date();
  const since = day(new Date(now.getFullYear(), now.getMonth(), 1));
  const until = day(new Date(now.getFullYear(), now.getMonth(), now.getDate() + 1));
  const offset = Math.round(-now.getTimezoneOffset() / 60);
  const asked = `since=${since}&until=${until}&utc_offset_hours=${offset}`;
  const [costs, budgets] = await Promise.all([
    context.may("see_money") ? context.call(`/admin/v1/costs?${asked}`).catch(unsummed) : null, context.call("/admin/v1/budgets")]);
  return [...(costs ? spent(costs, since) : [h("p", { class: "faint" }, t("no_right"))]), h("h2", {}, t("budgets")), budgetTable(budgets.budgets)];
}

// A currency without a rate: there is no sum, and budgets are shown all the same.
function unsummed(error) {
  if (error.status !== 400) throw error;
  return { lacks: error.message };
}

function spent(costs, since) {
  if (costs.lacks) return [h("p", { class: "faint" }, `${t("no_sum")}: ${costs.lacks}`)];
  const say = (micro) => worth(micro, costs.currency);
  const row = (one) => [one.requests, one.tokens, new Amount(say(one.micro)), one.micro_per_mtok === null ? null : new Amount(say(one.micro_per_mtok))];
  const heads = [t("requests"), t("tokens"), t("cost"), t("per_mtok")];
  return [
    h("h2", {}, `${t("since")} (${since})`),
    h("section", { class: "card figures" },
      figure(say(costs.cash_micro), t("spent"), "api"), figure(say(costs.granted_micro), t("granted")),
      figure(say(costs.allocation_micro), t("gpus"), "own"), figure(say(costs.idle_micro), t("idle")),
      figure(percent(costs.own_token_share), t("share"), "own"),
      figure(say(costs.saving.micro), t("saving"), costs.saving.micro < 0 ? "bad" : "good")),
    h("h2", {}, t("by_feature")),
    table([t("feature"), ...heads], costs.features.map((one) => [one.name, ...row(one)]), t("no_costs")),
    h("h2", {}, t("by_model")),
    table([t("model"), t("target"), ...heads], costs.models.map((one) => [one.name, one.tier, ...row(one)]), t("no_costs")),
  ];
}

function budgetTable(budgets) {
  const rows = budgets.map((one) => {
    const share = Math.min(1, one.share ?? 0);
    const kind = share >= 1 ? "bad" : share >= 0.8 ? "api" : "own";
    const scope = one.scope.split("+").map((part) => t(`scope_${part}`)).join(" + ");
    return [one.id, scope, t(`period_${one.period}`), new Amount(worth(one.effective_limit_micro, one.currency)),
      h("div", {}, `${worth(one.spent_micro, one.currency)} (${percent(one.share)})`, bar([[share, kind], [1 - share, "rest"]]))];
  });
  return table([t("budget"), t("scope"), t("period"), t("limit"), t("used")], rows, t("no_budgets"));
}

export async function providers(context) {
  const seen = await context.fleet();
  const word = { closed: h("span", { class: "good" }, t("closed")), open: h("span", { class: "bad" }, t("open")), "half-open": h("span", { class: "api" }, t("half")) };
  const rows = Object.entries(seen.models).flatMap(([model, one]) => one.offerings.map((o) => [
    model, o.id, o.jurisdiction, o.unfinished ?? 0, (word[o.breaker ?? "closed"]).cloneNode(true),
    price(o.price?.input_micro_per_mtok, o.price), price(o.price?.output_micro_per_mtok, o.price),
    o.is_drifting ? h("span", { class: "bad" }, t("yes")) : t("no")]));
  const now = table([t("model"), t("target"), t("label"), t("under_way"), t("breaker"), t("price_in"), t("price_out"), t("drift")], rows, t("no_decisions"));
  return context.may("see_money") ? [now, h("h2", {}, t("scorecard")), await scorecard(context)] : [now];
}

async function scorecard(context) {
  const found = await context.call("/admin/v1/scorecard").catch((error) => (error.status === 400 ? null : Promise.reject(error)));
  if (!found) return h("p", { class: "faint" }, t("no_scores"));
  const share = (one) => (one === null ? null : new Amount(`${(100 * one).toFixed(1)} %`));
  const rows = found.cards.map((one) => [
    `${one.provider}/${one.model}`, one.attempts, share(one.limited_rate), share(one.refused_rate), one.faulty,
    one.first_p50_ms === null ? null : seconds(one.first_p50_ms), one.first_p95_ms === null ? null : seconds(one.first_p95_ms),
    one.minutes_down, share(one.seen_percent === null ? null : one.seen_percent / 100),
    one.promised === null ? t("unknown") : new Amount(`${one.promised.percent} %`),
    one.money.map((paid) => worth(paid.micro, paid.currency)).join(", "), one.is_few ? t("few") : ""]);
  return table([t("target"), t("tries"), "429", t("refusals"), t("faults"), "TTFT p50", "p95", t("down_minutes"), t("measured"), t("promised"), t("cost"), ""], rows, t("no_scores"));
}

function price(micro, whole) {
  return whole ? new Amount(worth(micro, whole.currency)) : null;
}

export async function switches(context) {
  const known = await context.call("/admin/v1/directory");
  const back = (one) => context.may("switch", one.scope === "tenant" ? one.value : null) && h("button", { type: "button", onclick: () => takeBack(context, one) }, t("take_back"));
  const rows = known.switches.map((one) => [t(`scope_${one.scope}`), one.value, one.by, one.why, back(one) || null]);
  return [
    context.may("switch") ? throwing(context) : h("p", { class: "faint" }, t("no_right")),
    h("h2", {}, t("thrown")),
    table([t("scope"), t("value"), t("by"), t("why"), ""], rows, t("none_thrown")),
  ];
}
switches.isForm = true;

function throwing(context) {
  const scope = h("select", { name: "scope" }, ["model", "provider", "tenant", "jurisdiction", "all"].map((one) => h("option", { value: one }, t(`scope_${one}`))));
  const value = h("input", { name: "value", maxlength: 200 });
  const why = h("input", { name: "why", required: true, maxlength: 200 });
  const act = async (event) => {
    event.preventDefault();
    const what = scope.value === "all" ? t("scope_all") : `${t(`scope_${scope.value}`)} ${value.value}`;
    if (!confirm(t("sure").replace("{}", what))) return;
    await said(context, () => context.call("/admin/v1/switches", { method: "POST", body: JSON.stringify({ scope: scope.value, value: scope.value === "all" ? "" : value.value.trim(), why: why.value }) }));
  };
  return h("section", { class: "card" }, h("h3", {}, t("throw_title")), h("p", { class: "faint" }, t("throw_about")),
    h("form", { class: "row", onsubmit: act }, h("label", {}, t("scope"), scope), h("label", {}, t("value"), value), h("label", {}, t("why"), why), h("button", { class: "danger" }, t("throw"))));
}

async function takeBack(context, one) {
  const asked = new URLSearchParams({ scope: one.scope, value: one.value });
  await said(context, () => context.call(`/admin/v1/switches?${asked}`, { method: "DELETE" }));
}

async function said(context, act) {
  try {
    await act();
    context.again();
  } catch (error) {
    context.notice(`${t("refused")}: ${error.message}`);
  }
}
