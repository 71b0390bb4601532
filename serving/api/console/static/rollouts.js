// Which names move from one model to another, how far, why they are where they are; three verbs.

import { Amount, bar, clock, h, percent, table } from "./dom.js";
import { tell } from "./telling.js";
import { t } from "./words.js";

const VERBS = { running: ["pause", "abort"], paused: ["resume", "abort"], done: ["abort"] };
const KINDS = { running: "own", paused: "api", done: "good", rolled_back: "bad", aborted: "bad" };

export async function rollouts(context) {
  const [{ rollouts: rows }, control] = await Promise.all([context.call("/admin/v1/rollouts"), context.call("/admin/v1/console/control")]);
  const waits = control.rollouts ?? {}; // a controller of before tells nothing of them
  const mayRoll = context.may("roll");
  const drawn = rows.map((one) => [
    one.id, one.old, one.new,
    h("div", {}, percent(one.percent / 100), bar([[one.percent, "own"], [100 - one.percent, "rest"]])),
    h("span", { class: KINDS[one.state] }, t(`state_${one.state}`)),
    one.step < 0 ? null : new Amount(`${one.step + 1} / ${one.steps.length}`),
    one.since_ms ? new Amount(clock(one.since_ms)) : null, one.by, tell(one.said, one.reason),
    tell(waits[one.id]?.said, waits[one.id]?.reason),
    mayRoll && h("div", { class: "row" }, (VERBS[one.state] ?? []).map((verb) => button(context, one, verb)))]);
  return [
    h("p", { class: "faint" }, t("rollouts_about")),
    table([t("name"), t("from"), t("to"), t("weight"), t("state"), t("step"), t("step_since"), t("by"), t("reason"), t("waits"), ""], drawn, t("no_rollouts")),
  ];
}

function button(context, one, verb) {
  // Each word stands here whole, so that the test of both languages finds it.
  const words = { pause: t("pause"), resume: t("resume"), abort: t("abort") };
  const act = async () => {
    const why = prompt(t("ask_why").replace("{}", `${words[verb]}: ${one.id}`), "");
    if (why === null) return;
    const path = `/admin/v1/rollouts/${encodeURIComponent(one.id)}/${verb}?${new URLSearchParams({ why })}`;
    try {
      await context.call(path, { method: "POST" });
      context.again();
    } catch (error) {
      context.notice(`${t("refused")}: ${error.message}`);
    }
  };
  return h("button", { type: "button", class: verb === "abort" ? "danger" : null, onclick: act }, words[verb]);
}
