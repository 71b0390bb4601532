// Elements, numbers and small pictures. Text only ever enters as text: nothing here parses HTML.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

export function show(into, ...children) {
  into.replaceChildren(...children.flat().filter((c) => c instanceof Node));
}

export function figure(value, label, kind = "") {
  return h("div", { class: "figure" }, h("b", { class: kind }, value), h("span", {}, label));
}

export class Amount {
  // A figure already in words: stands right like a number.
  constructor(text) { this.text = text; }
}

export function table(heads, rows, empty) {
  if (!rows.length) return h("p", { class: "faint" }, empty);
  const isNumber = heads.map((_, i) => rows.some((row) => typeof row[i] === "number" || row[i] instanceof Amount));
  const kind = (i) => (isNumber[i] ? { class: "number" } : {});
  return h("div", { class: "wide" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head, i) => h("th", { scope: "col", ...kind(i) }, head)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, i) => h("td", kind(i), shown(value))))))));
}

function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (value instanceof Amount) return value.text;
  return typeof value === "number" ? number(value) : value;
}

export function number(value, digits = 2) {
  return new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: digits }).format(value);
}

export function money(micro, currency) {
  return new Intl.NumberFormat(document.documentElement.lang, { style: "currency", currency, maximumFractionDigits: Math.abs(micro) < 10e6 ? 4 : 2 }).format(micro / 1e6);
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  return new Intl.NumberFormat(document.documentElement.lang, { style: "percent", maximumFractionDigits: 1 }).format(share);
}

export function seconds(ms) {
  if (ms < 0) return null;
  return new Amount(ms < 1000 ? `${number(ms, 0)} ms` : `${number(ms / 1000)} s`);
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString(document.documentElement.lang);
}

export function bar(parts) {
  // SVG, because the page's own policy forbids style attributes.
  const whole = parts.reduce((sum, [value]) => sum + value, 0) || 1;
  const svg = picture("0 0 100 4", "bar");
  let x = 0;
  for (const [value, kind] of parts) {
    const width = (100 * value) / whole;
    svg.append(shape("rect", { x, y: 0, width, height: 4, class: kind }));
    x += width;
  }
  return svg;
}

export function spark(series, label) {
  const svg = picture("0 0 100 30", "spark");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const top = Math.max(1, ...Object.values(series).flat());
  for (const [kind, values] of Object.entries(series)) {
    if (values.length < 2) continue;
    const step = 100 / (values.length - 1);
    const points = values.map((v, i) => `${(i * step).toFixed(2)} ${(28 - (26 * v) / top).toFixed(2)}`);
    svg.append(shape("path", { d: `M${points.join("L")}`, class: kind }));
  }
  return svg;
}

function picture(box, kind) {
  const svg = shape("svg", { viewBox: box, preserveAspectRatio: "none", class: kind });
  return svg;
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
