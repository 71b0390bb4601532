// Signs in, polls what the open tab needs, and draws it. The key lives in this tab only.

import { h, show } from "./dom.js";
import { language, switchLanguage, t } from "./words.js";
import { openBook, tell } from "./telling.js";
import { decisions, fleet, money, providers, switches } from "./views.js";
import { playground } from "./playground.js";
import { rollouts } from "./rollouts.js";
import { votes } from "./votes.js";

const TABS = { fleet, decisions, money, providers, rollouts, switches, playground, votes };
const KEPT = { key: "ballast-key", theme: "ballast-theme" };
const POLL_MS = 2000;
const HISTORY_MAX = 150;

const main = document.getElementById("main");
const state = { me: null, tab: "", history: {}, timer: 0, drawn: 0 };

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(path, options = {}) {
  const head = { authorization: `Bearer ${sessionStorage.getItem(KEPT.key) || ""}`, ...(options.body ? { "content-type": "application/json" } : {}) };
  const reply = await fetch(path, { ...options, headers: head });
  if (!reply.ok) {
    const body = await reply.json().catch(() => ({}));
    throw new Refused(reply.status, tell(body.error?.said, body.error?.message) || `${reply.status}`);
  }
  return options.raw ? reply : reply.json();
}

function may(right, tenant = null) {
  return state.me.allowed.some((one) => one.rights.includes(right) && (one.tenants === null || (tenant && one.tenants.includes(tenant))));
}

function notice(text) {
  const line = document.getElementById("notice");
  line.textContent = text;
  line.hidden = !text;
}

function keep(signals) {
  for (const [name, row] of Object.entries(signals.models)) {
    const kept = (state.history[name] ??= { running: [], queued: [] });
    kept.running.push(row.running);
    kept.queued.push(row.queued);
    for (const list of Object.values(kept)) if (list.length > HISTORY_MAX) list.shift();
  }
}

const context = {
  call, may, notice, history: state.history,
  get me() { return state.me; },
  async fleet() {
    const [seen, signals] = await Promise.all([call("/fleet"), call("/signals")]);
    keep(signals);
    return { ...seen, signals: signals.models };
  },
  again: () => draw(true),
};

async function draw(isNew = false) {
  clearTimeout(state.timer);
  const turn = ++state.drawn;
  const view = TABS[state.tab];
  try {
    const drawn = isNew || !view.isForm ? await view(context) : null;
    if (turn !== state.drawn) return;
    if (drawn) show(main, drawn);
    notice("");
  } catch (error) {
    if (turn !== state.drawn) return;
    if (error instanceof Refused && error.status === 401) return leave(error.message);
    if (error instanceof Refused && error.status === 403) show(main, h("p", { class: "faint" }, `${t("no_right")} ${error.message}`));
    else notice(error instanceof Refused ? `${t("refused")}: ${error.message}` : t("away"));
  }
  state.timer = setTimeout(draw, document.hidden ? POLL_MS * 10 : POLL_MS);
}

function open() {
  const wanted = location.hash.slice(1);
  state.tab = TABS[wanted] ? wanted : "fleet";
  frame();
  draw(true);
}

function frame() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  document.getElementById("language").textContent = t("language");
  document.getElementById("theme").title = t("theme");
  const out = document.getElementById("leave");
  out.textContent = t("leave");
  out.hidden = !state.me;
  out.title = state.me ? `${t("signed_in")} ${state.me.id}` : "";
  const links = Object.keys(TABS).map((name) => h("a", { href: `#${name}`, "aria-current": name === state.tab ? "page" : null }, t(name)));
  show(document.getElementById("tabs"), state.me ? links : []);
}

function leave(why = "") {
  clearTimeout(state.timer);
  state.drawn += 1;
  sessionStorage.removeItem(KEPT.key);
  state.me = null;
  frame();
  const field = h("input", { type: "password", name: "key", autocomplete: "off", required: true });
  const enter = async (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEPT.key, field.value.trim());
    await start();
  };
  show(main, h("section", { class: "card login" },
    h("h2", {}, t("login_title")), h("p", { class: "faint" }, t("login_about")),
    why && h("p", { class: "bad", role: "alert" }, why),
    h("form", { onsubmit: enter }, h("label", {}, t("login_key"), field), h("button", { class: "main" }, t("login_go")))));
  field.focus();
}

async function start() {
  if (!sessionStorage.getItem(KEPT.key)) return leave();
  try {
    state.me = await call("/admin/v1/whoami");
  } catch (error) {
    return leave(error instanceof Refused ? error.message : t("away"));
  }
  open();
}

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(KEPT.theme, theme);
}

const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
document.documentElement.dataset.theme = localStorage.getItem(KEPT.theme) || dark;
document.getElementById("theme").addEventListener("click", () => paint(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
document.getElementById("language").addEventListener("click", () => { switchLanguage(); if (state.me) open(); else leave(); });
document.getElementById("leave").addEventListener("click", () => leave());
addEventListener("hashchange", () => state.me && open());
await openBook();
start();
