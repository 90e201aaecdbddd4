// The list of jobs, which follows the journal, and its filters.

import { complain, h, link, say, state, table } from "./dom.js";
import { ask, json } from "./ask.js";
import { duration, moment } from "./format.js";

const STATES = ["SUBMITTED", "QUEUED", "STARTING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"];
// What is asked for at a time, how long the server may wait with an answer, and how long to wait after one that failed.
const SHOWN = 100, WAIT = 25, AGAIN = 3000;

// How long it waited, and how long it has run, in seconds; until now if that is not over.
const spans = (job) => {
  const now = Date.now() / 1000;
  const waited = (job.t_start ?? job.t_end ?? now) - job.t_submitted;
  const ran = job.t_running ? (job.t_end ?? now) - job.t_running : null;
  return { waited: Math.max(0, waited), ran: ran === null ? null : Math.max(0, ran) };
};

export function jobTable(jobs, empty, more = []) {
  return table([
    ["State", "brief", state],
    ["Function", "brief", (job) => link(job.function, "function", job.function)],
    ["Job", "brief", (job) => link(job.id.slice(0, 8), "job", job.id)],
    ["Input", "long", (job) => job.input || h("span", { class: "soft" }, `(${job.trigger})`)],
    ["Submitted", "brief", (job) => moment(job.t_submitted)],
    ["Waited", "brief", (job) => `${duration(spans(job).waited)}`],
    ["Ran", "brief", (job) => duration(spans(job).ran)],
    ["Attempts", "brief", (job) => (job.attempt > 1 ? String(job.attempt) : "")],
    ...more,
  ], jobs, empty);
}

// Gives `use` the list of jobs whenever it is another one, as long as somebody looks at it.
export async function follow(query, signal, use) {
  let seen = "";
  const sleep = (time) => new Promise((resolve) => { setTimeout(resolve, time); });
  const looked = () => new Promise((resolve) => {
    if (!document.hidden) { resolve(); return; }
    document.addEventListener("visibilitychange", resolve, { once: true });
  });
  while (!signal.aborted) {
    // A window in the background holds no connection: browsers have few for one server.
    await looked();
    const pause = new AbortController();
    const hide = () => { if (document.hidden) pause.abort(); };
    document.addEventListener("visibilitychange", hide);
    try {
      const words = new URLSearchParams({ ...query, ...(seen ? { wait: WAIT } : {}) });
      const answer = await ask(`jobs?${words}`, { headers: seen ? { "If-None-Match": seen } : {}, signal: AbortSignal.any([signal, pause.signal]) });
      if (answer.status === 200) {
        seen = answer.headers.get("ETag") || "";
        use((await answer.json()).jobs.reverse());
        if (!seen) await sleep(AGAIN);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.name === "AbortError") continue;
      if (error.status === 401 || error.status === 403) throw error;
      complain(error);
      await sleep(AGAIN);
    } finally {
      document.removeEventListener("visibilitychange", hide);
    }
  }
}

export async function showJobs(element, [words = ""], signal) {
  const wanted = Object.fromEntries(new URLSearchParams(words));
  const functions = await json("system/services", { signal });
  const names = new Set(functions.map((one) => one.name));
  if (wanted.function) names.add(wanted.function);
  const choose = (name, value) => {
    const next = { ...wanted, [name]: value };
    const filled = Object.entries(next).filter(([, text]) => text);
    location.hash = filled.length ? `#jobs/${encodeURIComponent(new URLSearchParams(filled))}` : "#jobs";
  };
  const select = (label, name, options) => h("label", {}, label,
    h("select", { id: `filter-${name}`, onchange: (event) => choose(name, event.target.value) },
      h("option", { value: "" }, "all"),
      options.map(([value, text]) => h("option", { value, selected: wanted[name] === value }, text))));
  const list = h("div", {});
  element.append(h("section", { "aria-labelledby": "jobs-title" },
    h("h2", { id: "jobs-title" }, "Jobs"),
    h("div", { class: "row", role: "group", "aria-label": "Which jobs" },
      select("Function", "function", [...names].sort().map((name) => [name, name])),
      select("State", "state", [["SUBMITTED,QUEUED,STARTING,RUNNING", "not over"], ...STATES.map((one) => [one, one.toLowerCase()])])),
    list));
  let before = null;
  const use = (jobs) => {
    list.replaceChildren(jobTable(jobs, "There is no such job."));
    if (jobs.length === SHOWN) list.append(h("p", { class: "soft" }, `The newest ${SHOWN} are shown.`));
    const running = jobs.filter((job) => job.state === "RUNNING").length;
    if (before !== null && before !== running) say(`${running} jobs run`);
    before = running;
    document.getElementById("main").removeAttribute("aria-busy");
  };
  // Times of jobs that are not over go on.
  let last = [];
  const tick = setInterval(() => { if (!document.hidden && last.some((job) => job.t_end === null) && !list.contains(document.activeElement)) use(last); }, 1000);
  signal.addEventListener("abort", () => clearInterval(tick));
  await follow({ ...wanted, limit: SHOWN }, signal, (jobs) => { last = jobs; use(jobs); });
}
