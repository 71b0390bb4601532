// Sentences that came with their code are told from the catalogue of `models/reasons`; the English
// that came beside a code is shown where it is asked for, and where the catalogue lacks the code.

import { language } from "./words.js";

let book = {};

export async function openBook() {
  const reply = await fetch("reasons.json").catch(() => null);
  if (reply?.ok) book = await reply.json();
}

export function tell(said, english) {
  if (said && (english ?? said.text) !== said.text) return english; // an older gateway changed the one alone
  if (!said || language() === "en" || !Object.hasOwn(book, said.code)) return english ?? said?.text ?? "";
  return book[said.code].replace(/\{\{|\}\}|\{(\w+)\}/g, (mark, name) => (name ? value(said.values?.[name] ?? "") : mark[0]));
}

function value(one) {
  if (Array.isArray(one)) return one.map(value).join("、");
  return one !== null && typeof one === "object" ? tell(one, one.text) : String(one);
}
