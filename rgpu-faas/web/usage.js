// GPU use and cost of functions, by the GPU server's accounts.

import { h, table } from "./dom.js";
import { json } from "./ask.js";
import { chart, ofNumbers, ofTimes } from "./chart.js";
import { count, duration, gibHours } from "./format.js";

const HOUR = 3600, DAY = 86400;
// Name, its length, the server's step, and that in seconds.
const TIMES = { "1h": ["hour", HOUR, "5min", 300], "1d": ["day", DAY, "hour", HOUR], "7d": ["week", 7 * DAY, "hour", 3 * HOUR], "30d": ["30 days", 30 * DAY, "day", DAY] };
const MEASURES = {
  gpu_seconds: ["GPU time", duration, ofTimes],
  memory_mib_seconds: ["memory × time", gibHours, (least) => ofNumbers(least / 1024 / HOUR) * 1024 * HOUR],
  cost: ["cost", (value) => value.toFixed(4), ofNumbers],
  launches: ["kernel launches", count, ofNumbers],
  sessions: ["sessions begun", count, ofNumbers],
};
// Functions with a colour of their own.
const SERIES = 7;
const OTHERS = "others";

export async function showUsage(element, [time = "1d", measure = "gpu_seconds"], signal) {
  const [, length, step, seconds] = TIMES[time] || TIMES["1d"];
  const [what, print, round] = MEASURES[measure] || MEASURES.gpu_seconds;
  const go = (next) => { location.hash = `#usage/${next.time || time}/${next.measure || measure}`; };
  const select = (id, label, options, value, act) => h("label", {}, label, h("select", { id, onchange: (event) => act(event.target.value) },
    Object.entries(options).map(([key, [name]]) => h("option", { value: key, selected: key === value }, name))));
  const section = h("section", { "aria-labelledby": "usage-title" },
    h("h2", { id: "usage-title" }, "GPU use and cost"),
    h("div", { class: "row" },
      select("time", "The last", TIMES, time, (value) => go({ time: value })),
      select("measure", "Show", MEASURES, measure, (value) => go({ measure: value }))));
  element.append(section);
  const to = Math.floor(Date.now() / 1000);
  const from = Math.floor((to - length) / seconds) * seconds;
  const told = await json(`usage?${new URLSearchParams({ from, to, step })}`, { signal });
  if (!told.configured) {
    section.append(h("p", { class: "soft" }, "No accounts are configured. With rgpud --accounts, and rgpu-faas serve --usage-url and --usage-token-file, what functions use and cost is shown here."));
    return;
  }
  const name = (row) => row.function || "(without a name)";
  const value = (row) => row[measure] ?? row.gpu_seconds;
  const sums = [...told.functions].sort((a, b) => value(b) - value(a));
  const names = sums.slice(0, SERIES).map(name);
  if (sums.length > SERIES) names.push(OTHERS);
  const columns = Array.from({ length: Math.ceil((to - from) / seconds) }, (_, index) => ({
    label: label(from + index * seconds, length),
    values: names.map(() => 0),
  }));
  for (const row of told.series) {
    const column = columns[Math.floor((Date.parse(row.time) / 1000 - from) / seconds)];
    const series = names.indexOf(name(row));
    if (column) column.values[series < 0 ? names.length - 1 : series] += value(row);
  }
  section.append(chart({ title: what, names, columns, print, round, signal }));
  const all = {};
  for (const key of ["sessions", "seconds", "gpu_seconds", "memory_mib_seconds", "launches", "cost"]) all[key] = sums.reduce((total, row) => total + (row[key] || 0), 0);
  const currencies = new Set(sums.map((row) => row.currency));
  all.currency = currencies.size === 1 ? [...currencies][0] : null;
  element.append(h("section", { "aria-labelledby": "sums-title" }, h("h2", { id: "sums-title" }, "For each function"), table([
    ["Function", "brief", name],
    ["Cost", "number", (row) => (row.currency === null ? "" : `${row.cost.toFixed(4)} ${row.currency}`.trim())],
    ["GPU time", "number", (row) => duration(row.gpu_seconds)],
    ["Memory × time", "number", (row) => gibHours(row.memory_mib_seconds)],
    ["Sessions", "number", (row) => count(row.sessions)],
    ["Launches", "number", (row) => count(row.launches)],
  ], sums, "No function has used a GPU in this time.", all)));
}

function label(seconds, length) {
  const time = new Date(seconds * 1000);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}`;
  return length > 7 * DAY ? day : length > DAY ? `${day} ${clock}` : clock;
}
