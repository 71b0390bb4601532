// Pairs of answers, sides by lot and without names: a person says which is better.

import { Amount, figure, h, percent, show, table } from "./dom.js";
import { t } from "./words.js";

export async function votes(context) {
  const found = await context.call("/admin/v1/evaluations");
  if (!context.may("review")) return [h("p", { class: "faint" }, t("no_vote")), listed(context, found.evaluations, null)];
  const place = h("div", {});
  return [h("p", { class: "faint" }, t("votes_about")), listed(context, found.evaluations, place), place];
}
votes.isForm = true;

function listed(context, evaluations, place) {
  const day = (ms) => new Date(ms).toLocaleString(document.documentElement.lang);
  const rows = evaluations.map((one) => [
    one.id, one.name, day(one.created_ms), one.questions,
    place && h("button", { type: "button", onclick: () => turn(context, one.id, place) }, t("vote"))]);
  return table([t("evaluation"), t("set"), t("at"), t("questions"), ""], rows, t("no_evaluations"));
}

async function turn(context, id, place) {
  const told = async (act) => {
    try { await act(); context.notice(""); } catch (error) { context.notice(`${t("refused")}: ${error.message}`); }
  };
  await told(async () => {
    const { pair } = await context.call(`/admin/v1/evaluations/${id}/pair`);
    show(place, pair ? asked(pair, (choice) => told(async () => {
      await context.call(`/admin/v1/evaluations/${id}/votes`, { method: "POST", body: JSON.stringify({ question: pair.question, choice }) });
      await turn(context, id, place);
    })) : await result(context, id));
  });
}

function asked(pair, say) {
  const side = (name, text) => h("section", { class: "card answer" }, h("h3", {}, name), h("p", {}, text));
  let isSaid = false;
  const button = (word, choice) => h("button", { type: "button", class: "main", onclick: () => { if (!isSaid) { isSaid = true; say(choice); } } }, word);
  return h("section", {},
    h("h2", {}, `${pair.done + 1} / ${pair.pairs}`),
    h("section", { class: "card answer" }, h("h3", {}, t("prompt")), h("p", { class: "asked" }, pair.text)),
    h("div", { class: "answers" }, side(t("left"), pair.left), side(t("right"), pair.right)),
    h("p", { class: "row" }, button(t("left_better"), "left"), button(t("right_better"), "right"), button(t("equal"), "tie"), button(t("both_bad"), "neither")));
}

async function result(context, id) {
  const found = await context.call(`/admin/v1/evaluations/${id}`);
  const span = (one) => (one ? `${percent(one.value)} (${percent(one.low)} – ${percent(one.high)})` : "–");
  const cell = (one) => new Amount(span(one));
  const rows = found.results.arms.map((arm, place) => [arm.name, found.votes.wins[place], cell(arm.passed), cell(arm.answered)]);
  return h("section", {},
    h("h2", {}, t("all_voted")),
    h("section", { class: "card figures" },
      figure(span(found.votes.candidate), t("preferred"), "own"), figure(found.votes.votes, t("votes")),
      figure(found.votes.voters, t("voters")), figure(found.votes.ties, t("equal")), figure(found.votes.neither, t("both_bad"))),
    found.votes.is_few && h("p", { class: "faint" }, t("few_votes")),
    table([t("arm"), t("won"), t("passed"), t("answered")], rows, ""));
}
