// One job: its timeline, what it prints as it comes, and what it has made.

import { at, button, complain, facts, h, link, say, state, svg, sure } from "./dom.js";
import { ask, json, mayChange, path, post, remove } from "./ask.js";
import { base, bytes, duration, moment } from "./format.js";

// Larger texts and pictures are not shown by themselves, and of a log only the last part stays in the page.
const TEXT = 256 << 10, PICTURE = 32 << 20, LOG = 2 << 20;
const PICTURES = ["png", "jpg", "jpeg", "gif", "webp", "avif", "bmp"];
const TEXTS = ["json", "txt", "csv", "log", "md", "yaml", "yml", "jsonl"];
// Files that are shown without being asked for.
const SHOWN = 12;

export async function showJob(element, [id = ""], signal) {
  const about = h("section", { "aria-labelledby": "job-title" });
  const log = h("pre", { tabindex: 0, role: "log", "aria-label": "What the job prints", "aria-live": "off" });
  const files = h("section", { "aria-labelledby": "files-title", hidden: true });
  const output = h("section", { "aria-labelledby": "log-title" }, h("h2", { id: "log-title" }, "Output"), log);
  element.append(about, files, output);
  let job = await json(path("jobs", id), { signal });
  document.title = `Job ${job.function} ${job.id.slice(0, 8)}`;
  const draw = () => about.replaceChildren(...described(job, again));
  const again = async () => { job = await json(path("jobs", id), { signal }); draw(); };
  draw();
  read(job, log, signal).catch((error) => { if (!signal.aborted) complain(error); });
  at("main").removeAttribute("aria-busy");
  while (job.t_end === null) {
    const before = `${job.state} ${job.attempt}`;
    job = await json(`${path("jobs", id, "wait")}?timeout=2`, { signal });
    draw();
    if (before !== `${job.state} ${job.attempt}`) say(`the job is ${job.state.toLowerCase()}`);
  }
  await showMade(job, files, signal);
}

function described(job, again) {
  const actions = [];
  if (mayChange()) {
    if (job.t_end === null) {
      actions.push(button("Cancel", async () => { await post(path("jobs", job.id, "cancel")); await again(); }, { class: "danger" }));
    } else {
      if (job.dead) {
        actions.push(button("Replay", async () => { const made = await post(path("system", "dead-letter", job.id, "replay")); location.hash = `#job/${made.id}`; }, { class: "strong" }));
        actions.push(button("Give up", async () => { await remove(path("system", "dead-letter", job.id)); await again(); }));
      }
      actions.push(button("Delete", async () => {
        if (!await sure("Delete this job with its log? What it has published stays.", "Delete")) return;
        await remove(path("system", "logs", job.function, job.id));
        location.hash = "#jobs";
      }));
    }
  }
  return [
    h("div", { class: "row" }, h("h2", { id: "job-title", class: "grow" }, link(job.function, "function", job.function), ` · ${job.id.slice(0, 8)} · `, state(job)), actions),
    job.reason && h("pre", { "aria-label": "Reason" }, job.reason),
    timeline(job),
    facts([
      ["Job", job.id],
      ["Input", job.input],
      ["Trigger", job.trigger],
      ["Owner", job.owner],
      ["Version", job.version],
      ["Device", job.device],
      ["Submitted", moment(job.t_submitted)],
      ["Ended", moment(job.t_end)],
      ["Exit code", job.exit_code],
      ["Signal", job.signal],
      ["Came from", job.parent && link(job.parent.slice(0, 8), "job", job.parent)],
      ["Done again as", job.replaced_by && link(job.replaced_by.slice(0, 8), "job", job.replaced_by)],
      ["Attempts that failed", job.failures || null],
      ["Dead letter", job.dead ? "yes" : null],
    ]),
    job.children && h("div", {}, h("h3", {}, "What came from it"), tree(job.children), job.more_children && h("p", { class: "soft" }, "and more")),
    details("The script's own phases", job.phases),
    details("GPU calls", job.stats),
  ].filter(Boolean);
}

function details(title, value) {
  return value && h("details", {}, h("summary", {}, title), h("pre", { tabindex: 0 }, JSON.stringify(value, null, 2)));
}

function tree(nodes) {
  return h("ul", {}, nodes.map((node) => h("li", {}, link(`${node.function} ${node.id.slice(0, 8)}`, "job", node.id), " ", state(node), node.children && tree(node.children))));
}

// ---- the timeline

// Seconds of phases that the script has told, in their order.
function phases(told) {
  const seconds = told && typeof told === "object" ? told.seconds ?? told : {};
  return Object.entries(seconds).filter(([, value]) => typeof value === "number" && value >= 0).slice(0, 20);
}

// A bar for each attempt: waiting, starting, running; and the last one's phases below it.
function timeline(job) {
  const now = Date.now() / 1000;
  const begin = job.t_submitted, end = Math.max(job.t_end ?? now, begin + 1e-3);
  const attempts = job.attempts.length ? job.attempts : [];
  const rows = [];
  let last = begin;
  attempts.slice(-20).forEach((attempt) => {
    const over = attempt.t_end ?? now, ran = attempt.t_running ?? over;
    const isBad = attempt.outcome !== null && attempt.outcome !== "SUCCEEDED";
    rows.push({
      name: `attempt ${attempt.attempt}`,
      bars: [["wait", "waited", last, attempt.t_start], ["begin", "starting", attempt.t_start, ran], [isBad ? "bad-run" : "run", "ran", ran, over]],
      words: attempt.outcome && isBad ? ` (${attempt.outcome.toLowerCase()})` : "",
    });
    last = over;
  });
  if (job.t_end === null && (job.state === "QUEUED" || job.state === "SUBMITTED")) rows.push({ name: "now", bars: [["wait", "waiting", last, now]], words: "" });
  const told = phases(job.phases);
  const from = job.t_running;
  if (told.length && from !== null) {
    let then = from;
    rows.push({ name: "phases", words: "", bars: told.map(([name, seconds], index) => { then += seconds; return [`s${index % 8}`, name, then - seconds, then]; }) });
  }
  // As wide as it will be, so that its words are as large as others.
  const width = Math.min(1100, Math.max(240, at("main").clientWidth - 60)), left = 78, high = 26;
  const steps = width < 500 ? 2 : 4;
  const height = rows.length * high + 22;
  const x = (time) => left + (width - left - 10) * Math.min(1, Math.max(0, (time - begin) / (end - begin)));
  const picture = svg("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  for (let step = 0; step <= steps; step += 1) {
    const time = begin + (end - begin) * step / steps;
    picture.append(svg("line", { class: "grid", x1: x(time), x2: x(time), y1: 0, y2: height - 18 }),
      svg("text", { x: x(time), y: height - 4, "text-anchor": step === steps ? "end" : step ? "middle" : "start" }, duration(time - begin)));
  }
  const words = [];
  rows.forEach((row, index) => {
    picture.append(svg("text", { x: 0, y: index * high + 16 }, row.name));
    const parts = row.bars.filter(([, , start, stop]) => stop > start).map(([kind, name, start, stop]) => {
      picture.append(svg("rect", { class: kind, x: x(start), y: index * high + 3, width: Math.max(1.5, x(stop) - x(start)), height: high - 8, rx: 3 }, svg("title", {}, `${name} ${duration(stop - start)}`)));
      return `${name} ${duration(stop - start)}`;
    });
    words.push(h("li", {}, `${row.name}: ${parts.join(", ") || "at once"}${row.words}`));
  });
  if (rows.length === 0) return null;
  return h("div", {}, h("h3", {}, "Timeline"), picture, h("ul", { class: "legend soft" }, words));
}

// ---- what it prints

async function read(job, log, signal) {
  const answer = await ask(`${path("system", "logs", job.function, job.id)}?follow=true`, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let length = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
    // Text, whatever is in it.
    log.append(value);
    length += value.length;
    while (length > LOG && log.firstChild !== log.lastChild) {
      length -= log.firstChild.length;
      log.firstChild.remove();
    }
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  }
  if (length === 0) log.append("(nothing)");
}

// ---- what it has made

async function showMade(job, element, signal) {
  if (job.state !== "SUCCEEDED") return;
  let made;
  try {
    made = await json(path("jobs", job.id, "files"), { signal });
  } catch (error) {
    // Whoever only looks sees no results.
    if (error.status === 403) return;
    throw error;
  }
  element.hidden = made.files.length === 0;
  const previews = h("div", { class: "previews" });
  element.replaceChildren(h("h2", { id: "files-title" }, "Results"), previews);
  if (made.more) element.append(h("p", { class: "soft" }, `and ${made.more} more files`));
  made.files.forEach((file, index) => previews.append(preview(job, file, index < SHOWN, signal)));
}

function preview(job, file, isShown, signal) {
  const address = path("jobs", job.id, "files", file.number);
  const ending = base(file.name).split(".").at(-1).toLowerCase();
  const content = h("div", {});
  const card = h("article", { class: "preview" },
    h("p", { class: "name" }, file.name), content,
    file.size === null
      ? h("p", { class: "soft" }, "It is there no more.")
      : h("a", { class: "button", href: address, download: base(file.name) }, "Download", h("span", { class: "unseen" }, ` ${file.name}`), ` (${bytes(file.size)})`));
  if (file.size === null) return card;
  const isPicture = PICTURES.includes(ending) && file.size <= PICTURE;
  const isText = TEXTS.includes(ending) && file.size <= TEXT;
  const fill = async () => {
    const answer = await ask(`${address}?preview=true`, { signal });
    if (isPicture) {
      const picture = URL.createObjectURL(await answer.blob());
      signal.addEventListener("abort", () => URL.revokeObjectURL(picture));
      content.replaceChildren(h("img", { src: picture, alt: file.name }));
    } else {
      content.replaceChildren(h("pre", { tabindex: 0 }, pretty(await answer.text(), ending)));
    }
  };
  if (isPicture || isText) {
    if (isShown) fill().catch((error) => { if (!signal.aborted) content.replaceChildren(error.message); });
    else content.append(button("Show", fill));
  }
  return card;
}

function pretty(text, ending) {
  if (ending !== "json") return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
