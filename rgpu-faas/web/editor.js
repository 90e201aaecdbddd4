// A text with numbered lines that is checked by the server while it is written.

import { h, say } from "./dom.js";
import { post } from "./ask.js";

// How long a pause in writing lasts.
const PAUSE = 350;

// `onchecked` gets the server's answer to each check. { element, text() }.
export function editor(text, { readOnly, onchecked, signal }) {
  const lines = h("pre", { class: "lines", "aria-hidden": "true" });
  const area = h("textarea", {
    id: "definition", "aria-label": "Definition, in YAML", "aria-describedby": "problems", spellcheck: "false", autocapitalize: "none",
    autocomplete: "off", readonly: readOnly, value: text,
    oninput: () => { number(); later(); },
    onscroll: () => { lines.scrollTop = area.scrollTop; },
    onkeydown: (event) => {
      // Tab leaves the text, as it leaves every field; spaces are written by the space bar and by Enter.
      if (event.key !== "Enter" || event.isComposing || readOnly) return;
      event.preventDefault();
      const before = area.value.slice(0, area.selectionStart);
      const line = before.slice(before.lastIndexOf("\n") + 1);
      const indent = /^ */.exec(line)[0] + (/:\s*(\|)?$/.test(line) ? "  " : "");
      area.setRangeText(`\n${indent}`, area.selectionStart, area.selectionEnd, "end");
      number();
      later();
    },
  });
  const problems = h("ul", { class: "problems", id: "problems" });
  let bad = new Set();
  let waiting = 0, asked = 0, before = "";

  function number() {
    const count = area.value.split("\n").length;
    lines.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const name = `${index + 1}\n`;
      return bad.has(index + 1) ? h("span", { class: "bad" }, `▸${name}`) : name;
    }));
    lines.scrollTop = area.scrollTop;
  }

  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(check, PAUSE);
  }

  function go(line, column) {
    const start = area.value.split("\n").slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    const end = start + (area.value.split("\n")[line - 1] || "").length;
    area.focus();
    area.setSelectionRange(Math.min(start + column - 1, end), end);
    area.scrollTop = Math.max(0, (line - 5) * (area.scrollHeight / area.value.split("\n").length));
  }

  async function check() {
    const mine = ++asked;
    let answer;
    try {
      answer = await post("system/check", area.value, { "Content-Type": "application/yaml" });
    } catch (error) {
      answer = { functions: [], warnings: [], problems: [{ line: 0, column: 0, message: error.message }] };
    }
    if (mine !== asked || signal.aborted) return;
    bad = new Set(answer.problems.map((problem) => problem.line));
    number();
    area.setAttribute("aria-invalid", String(answer.problems.length > 0));
    const words = answer.problems.map(({ line, column, message }) => (line ? `Line ${line}, column ${column}: ${message}` : message));
    problems.replaceChildren(
      ...answer.problems.map(({ line, column }, index) => h("li", {}, line
        ? h("button", { type: "button", onclick: () => go(line, column) }, words[index])
        : h("span", { class: "FAILED" }, words[index]))),
      ...answer.warnings.map(({ function: name, message }) => h("li", { class: "warning" }, `${name}: ${message}`)),
      ...(answer.problems.length ? [] : [h("li", { class: "good" }, "Nothing is wrong.")]));
    const now = words.join("; ") || "nothing is wrong";
    if (now !== before) say(now);
    before = now;
    onchecked(answer);
  }

  number();
  if (!readOnly) check();
  return { element: h("div", {}, h("div", { class: "editor" }, lines, area), problems), text: () => area.value };
}
