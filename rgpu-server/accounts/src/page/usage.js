// What the routes under v1/usage tell, as charts and tables. Names come from clients: they are only ever set as text.

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const SPANS = { "1h": HOUR, "6h": 6 * HOUR, "1d": DAY, "7d": 7 * DAY };
// Lengths of columns, and how many of them a chart has at most.
const STEPS = [5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 7 * DAY, 30 * DAY];
const COLUMNS = 72;
// Names that a chart tells apart, and answers that are put together.
const SERIES = 7, PAGES = 10;
const OTHERS = "others";

// What it is called, what a row has of it, how that is printed, and which steps a scale has.
const MEASURES = {
  gpu_seconds: ["GPU time", (row) => row.gpu_seconds, duration, ofTime],
  memory_mib_seconds: ["memory × time", (row) => row.memory_mib_seconds, gibHours, (least) => decimal(least / 1024 / HOUR) * 1024 * HOUR],
  cost: ["cost", (row) => row.cost, (value) => value.toFixed(4), decimal],
  bytes: ["bytes sent", (row) => row.bytes_in + row.bytes_out, bytes, (least) => 2 ** Math.ceil(Math.log2(least))],
  launches: ["kernel launches", (row) => row.launches, count, decimal],
  sessions: ["sessions begun", (row) => row.sessions, count, decimal],
  seconds: ["session time", (row) => row.seconds, duration, ofTime],
};

const at = (id) => document.getElementById(id);
let shown = null;
let asking = 0;

function duration(seconds) {
  if (seconds >= 2 * HOUR) return `${(seconds / HOUR).toFixed(1)} h`;
  if (seconds >= 2 * MINUTE) return `${(seconds / MINUTE).toFixed(1)} min`;
  return `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`;
}
function gibHours(mibSeconds) {
  const value = mibSeconds / 1024 / HOUR;
  return `${value.toFixed(value >= 100 ? 0 : value >= 1 ? 2 : 4)} GiB·h`;
}
function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) { number /= 1024; unit += 1; }
  return `${number.toFixed(unit && number < 100 ? 1 : 0)} ${units[unit]}`;
}
function count(number) {
  return number.toLocaleString("en", { maximumFractionDigits: 1 });
}
function moment(seconds, span) {
  const text = new Date(seconds * 1000).toISOString();
  return span > 2 * DAY ? `${text.slice(5, 10)} ${text.slice(11, 16)}` : text.slice(11, 16);
}

// ---- asking

class Refusal extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

async function ask(path, params, accept) {
  const token = sessionStorage.getItem("token") || "";
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(`v1/usage${path}?${new URLSearchParams(params)}`, { headers, cache: "no-store" });
  } catch {
    throw new Refusal(0, "the server does not answer");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Refusal(answer.status, body.error || `the server answers ${answer.status}`);
  }
  return accept ? answer : answer.json();
}

// All rows of an answer that comes in parts; the first part says what they are.
async function all(params) {
  const first = await ask("", { ...params, limit: 10000 });
  let last = first;
  for (let page = 1; last.next !== undefined && page < PAGES; page += 1) {
    last = await ask("", { ...params, limit: 10000, offset: last.next });
    first.rows.push(...last.rows);
  }
  first.cut = last.next !== undefined;
  return first;
}

// ---- what is asked for, kept in the address

function wanted() {
  const last = document.querySelector("#last input:checked").value;
  const now = Math.floor(Date.now() / 1000);
  let to = now, from = now - (SPANS[last] || DAY);
  if (last === "own") {
    const seconds = (id) => Math.floor(Date.parse(`${at(id).value}Z`) / 1000);
    [from, to] = [seconds("from"), seconds("to")];
    if (!(from < to)) throw new Refusal(400, "Own range: give a start and a later end");
  }
  const step = STEPS.find((step) => (to - from) / step <= COLUMNS) || STEPS.at(-1);
  // Whole columns.
  from = Math.floor(from / step) * step;
  return { last, from, to, step, by: at("by").value, measure: at("measure").value };
}

function remember(want) {
  const words = { last: want.last, by: want.by, measure: want.measure };
  if (want.last === "own") Object.assign(words, { from: at("from").value, to: at("to").value });
  history.replaceState(null, "", `#${new URLSearchParams(words)}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  const radio = [...document.querySelectorAll("#last input")].find((it) => it.value === words.get("last"));
  if (radio) radio.checked = true;
  for (const id of ["by", "measure"]) {
    if ([...at(id).options].some((it) => it.value === words.get(id))) at(id).value = words.get(id);
  }
  for (const id of ["from", "to"]) at(id).value = words.get(id) || "";
}

function params(want) {
  return { from: want.from, to: want.to };
}

// ---- showing

function name(row, by) {
  if (by === "device") return row.model ? `${row.model} ${row.device}`.trim() : row.device || "(not known)";
  return row[by] || "(without a name)";
}

async function show() {
  const mine = ++asking;
  const hint = (text) => { at("message").textContent = text; at("message").hidden = !text; };
  let want;
  try {
    want = wanted();
    remember(want);
    document.body.setAttribute("aria-busy", "true");
    const unit = want.step < HOUR ? "5min" : want.step < DAY ? "hour" : "day";
    const [series, sums, idle, alerts] = await Promise.all([
      all({ ...params(want), group_by: `${unit},${want.by}` }),
      all({ ...params(want), group_by: want.by }),
      ask("/idle", {}),
      ask("/alerts", { limit: 50 }),
    ]);
    if (mine !== asking) return;
    // What was kept less finely has longer columns.
    const step = Math.max(want.step, series.resolution_seconds);
    shown = { ...want, step, chosen: -1, ...columns(series.rows, { ...want, step }) };
    hint(series.cut || sums.cut ? "There is more than this page takes in: choose a shorter time." : "");
    draw();
    table(sums.rows, want);
    idleTable(idle);
    alertTable(alerts);
  } catch (error) {
    if (mine !== asking) return;
    hint(error instanceof Refusal ? error.message : `This page has failed: ${error.message}`);
    if (error.status === 401) at("token").focus();
  } finally {
    if (mine === asking) document.body.removeAttribute("aria-busy");
  }
}

// The columns of the chart: for each the value of each of the largest names, and of all others.
function columns(rows, want) {
  const value = MEASURES[want.measure][1];
  const totals = new Map();
  for (const row of rows) totals.set(name(row, want.by), (totals.get(name(row, want.by)) || 0) + value(row));
  const sorted = [...totals.keys()].filter((text) => totals.get(text) > 0).sort((a, b) => totals.get(b) - totals.get(a) || (a < b ? -1 : 1));
  const names = sorted.slice(0, SERIES);
  if (sorted.length > SERIES) names.push(OTHERS);
  const number = Math.max(1, Math.ceil((want.to - want.from) / want.step));
  const values = Array.from({ length: number }, () => names.map(() => 0));
  for (const row of rows) {
    const column = Math.floor((Date.parse(row.time) / 1000 - want.from) / want.step);
    const place = names.indexOf(name(row, want.by));
    const series = place < 0 ? names.length - 1 : place;
    if (series < 0) continue;
    values[Math.min(Math.max(column, 0), number - 1)][series] += value(row);
  }
  return { names, values };
}

function svg(kind, attributes, parent, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// The least step of a scale that is round and enough: 1, 2, 2.5 or 5 times a power of ten, or one of time.
function decimal(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= least) * power;
}
function ofTime(least) {
  const steps = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR];
  return least < 1 ? decimal(least) : steps.find((step) => step >= least) || decimal(least / HOUR) * HOUR;
}

function draw() {
  if (!shown) return;
  const { names, values, step, from, to, chosen } = shown;
  const print = MEASURES[shown.measure][2];
  const box = at("chart");
  const [width, height] = [Math.max(box.clientWidth, 200), Math.max(box.clientHeight, 120)];
  const [left, right, top, bottom] = [78, 6, 8, 22];
  const [inner, tall] = [width - left - right, height - top - bottom];
  const sum = (column) => column.reduce((a, b) => a + b, 0);
  const least = Math.max(...values.map(sum)) / 4;
  const most = least > 0 ? MEASURES[shown.measure][3](least) * 4 : 4;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (let line = 0; line <= 4; line += 1) {
    const y = top + tall * (1 - line / 4);
    svg("line", { class: "grid", x1: left, x2: width - right, y1: y, y2: y }, picture);
    svg("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, picture, print(most * line / 4));
  }
  const wide = inner / values.length;
  const label = to - from > 2 * DAY ? 80 : 40;
  const labels = Math.max(1, Math.ceil(values.length / (inner / (label + 20))));
  values.forEach((column, index) => {
    const x = left + wide * index;
    if (index === chosen) svg("rect", { class: "chosen", x, y: top, width: wide, height: tall }, picture);
    let y = top + tall;
    column.forEach((value, series) => {
      const high = tall * value / most;
      if (high <= 0) return;
      y -= high;
      svg("rect", { class: `bar s${names[series] === OTHERS ? 7 : series}`, x: x + wide * 0.08, y, width: wide * 0.84, height: high }, picture);
    });
    if (index % labels === 0 && x + label < width) svg("text", { x, y: height - 6 }, picture, moment(from + index * step, to - from));
  });
  if (values.every((column) => sum(column) === 0)) {
    svg("text", { class: "none", x: left + inner / 2, y: top + tall / 2, "text-anchor": "middle" }, picture, "nothing in this time");
  }
  box.replaceChildren(picture);
  at("legend").replaceChildren(...names.map((text, series) => {
    const item = document.createElement("li");
    const swatch = svg("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" });
    svg("rect", { class: `s${text === OTHERS ? 7 : series}`, width: 1, height: 1 }, swatch);
    item.append(swatch, text);
    return item;
  }));
  at("said").textContent = chosen < 0 ? "" : told(chosen);
}

// A column in words.
function told(column) {
  const { names, values, step, from } = shown;
  const print = MEASURES[shown.measure][2];
  const start = new Date((from + column * step) * 1000).toISOString();
  const end = new Date((from + (column + 1) * step) * 1000).toISOString();
  const parts = names
    .map((text, series) => [text, values[column][series]])
    .filter(([, value]) => value > 0)
    .map(([text, value]) => `${text} ${print(value)}`);
  return `${start.slice(0, 10)} ${start.slice(11, 16)} to ${end.slice(11, 16)} UTC: ${parts.join(", ") || "nothing"}`;
}

function choose(column) {
  if (!shown) return;
  const chosen = Math.min(Math.max(column, 0), shown.values.length - 1);
  if (chosen === shown.chosen) return;
  shown.chosen = chosen;
  draw();
}

// A table from [heading, class, cell of a row]; what an empty one says.
function fill(element, kinds, rows, empty, foot) {
  const line = (tag, texts) => {
    const row = document.createElement("tr");
    texts.forEach((text, place) => {
      const cell = document.createElement(tag);
      if (tag === "th") cell.scope = "col";
      cell.className = kinds[place][1];
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  };
  const [head, body] = [document.createElement("thead"), document.createElement("tbody")];
  head.append(line("th", kinds.map(([heading]) => heading)));
  body.append(...rows.map((row) => line("td", kinds.map(([, , cell]) => cell(row)))));
  element.replaceChildren();
  if (rows.length === 0) {
    const caption = document.createElement("caption");
    caption.textContent = empty;
    element.append(caption);
    return;
  }
  element.append(head, body);
  if (foot && rows.length > 1) {
    const end = document.createElement("tfoot");
    end.append(line("td", kinds.map(([, , cell], place) => (place === 0 ? "all" : cell(foot)))));
    element.append(end);
  }
}

function table(rows, want) {
  const value = MEASURES[want.measure][1];
  rows.sort((a, b) => value(b) - value(a));
  const sum = { currency: "" };
  const keys = ["sessions", "seconds", "gpu_seconds", "memory_mib_seconds", "bytes_in", "bytes_out", "calls", "launches", "cost"];
  for (const key of keys) sum[key] = rows.reduce((total, row) => total + row[key], 0);
  sum.peak_mib = Math.max(0, ...rows.map((row) => row.peak_mib));
  const currencies = new Set(rows.map((row) => row.currency));
  // Different currencies have no sum.
  sum.currency = currencies.size === 1 ? [...currencies][0] : null;
  fill(at("table"), [
    [want.by, "word", (row) => name(row, want.by)],
    ["cost", "", (row) => (row.currency === null ? "" : `${row.cost.toFixed(4)} ${row.currency}`.trim())],
    ["sessions", "", (row) => count(row.sessions)],
    ["session time", "", (row) => duration(row.seconds)],
    ["GPU time", "", (row) => duration(row.gpu_seconds)],
    ["memory × time", "", (row) => gibHours(row.memory_mib_seconds)],
    ["peak", "", (row) => bytes(row.peak_mib * 2 ** 20)],
    ["received", "", (row) => bytes(row.bytes_in)],
    ["sent", "", (row) => bytes(row.bytes_out)],
    ["calls", "", (row) => count(row.calls)],
    ["launches", "", (row) => count(row.launches)],
  ], rows, "Nobody has used anything in this time.", sum);
}

function idleTable(idle) {
  fill(at("idle"), [
    ["session", "", (row) => String(row.session)],
    ["tenant", "word", (row) => row.tenant],
    ["function", "word", (row) => row.function],
    ["program", "word", (row) => `${row.program} on ${row.host}`],
    ["idle", "", (row) => duration(row.idle_seconds)],
    ["holds", "", (row) => bytes(row.held_mib * 2 ** 20)],
  ], idle.rows, `No session holds memory and has done nothing for ${duration(idle.seconds)}.`);
}

function alertTable(alerts) {
  fill(at("alerts"), [
    ["time (UTC)", "word", (row) => row.time.slice(0, 19).replace("T", " ")],
    ["tenant", "word", (row) => row.tenant],
    ["what", "word long", (row) => row.text],
  ], alerts.rows, "There is no alert.");
}

// ---- the table as a file

async function download() {
  try {
    const want = wanted();
    const unit = want.to - want.from > 8 * DAY ? "day" : "hour";
    let answer = await ask("", { ...params(want), group_by: `${unit},${want.by}`, format: "csv", limit: 10000 }, true);
    let text = await answer.text();
    for (let page = 1; page < PAGES && answer.headers.get("Link"); page += 1) {
      const next = /<\?([^>]*)>/.exec(answer.headers.get("Link"));
      answer = await ask("", next[1], true);
      const more = await answer.text();
      text += more.slice(more.indexOf("\n") + 1);
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = `usage-${want.by}-${new Date(want.from * 1000).toISOString().slice(0, 10)}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    at("message").textContent = error.message;
    at("message").hidden = false;
  }
}

// ---- dark and light

function theme(next) {
  document.documentElement.dataset.theme = next;
  at("theme").textContent = next === "dark" ? "Light" : "Dark";
  at("theme").setAttribute("aria-label", `${at("theme").textContent} colours`);
}

const system = matchMedia("(prefers-color-scheme: dark)");
const systems = () => (system.matches ? "dark" : "light");
theme(localStorage.getItem("theme") || systems());
system.addEventListener("change", () => { if (!localStorage.getItem("theme")) theme(systems()); });
at("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  theme(next);
});

// ---- what people do

for (const [key, [text]] of Object.entries(MEASURES)) at("measure").append(new Option(text, key));
recall();
at("own").hidden = document.querySelector("#last input:checked").value !== "own";
at("token").value = sessionStorage.getItem("token") || "";
at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value.trim());
  show();
});
at("controls").addEventListener("submit", (event) => { event.preventDefault(); show(); });
at("controls").addEventListener("change", (event) => {
  const own = document.querySelector("#last input:checked").value === "own";
  at("own").hidden = !own;
  if (own && event.target.name === "last") {
    // What was shown before is a start.
    const text = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16);
    const before = shown || { from: Date.now() / 1000 - DAY, to: Date.now() / 1000 };
    if (!at("from").value) at("from").value = text(before.from);
    if (!at("to").value) at("to").value = text(before.to);
  }
  show();
});
at("csv").addEventListener("click", download);
at("chart").addEventListener("keydown", (event) => {
  if (!shown) return;
  const moves = { ArrowLeft: shown.chosen - 1, ArrowRight: shown.chosen + 1, Home: 0, End: shown.values.length - 1 };
  if (!(event.key in moves)) return;
  event.preventDefault();
  choose(moves[event.key]);
});
at("chart").addEventListener("pointermove", (event) => {
  if (!shown) return;
  const box = at("chart").getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - 78) / (box.width - 84) * shown.values.length);
  if (column >= 0) choose(column);
});
new ResizeObserver(draw).observe(at("chart"));
show();
