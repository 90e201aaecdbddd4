// The list of functions.

import { h, link, table } from "./dom.js";
import { json, mayChange } from "./ask.js";
import { bytes } from "./format.js";

export const isFile = (one) => one.source !== "request";

function folders(list) {
  return list.map((channel) => channel.path + (channel.suffix.length ? ` (${channel.suffix.join(", ")})` : "")).join(", ");
}

function gpu(one) {
  if (!one.enable_gpu) return "none";
  const { profile, memory_mib: memory, share } = one.vgpu;
  return [profile, memory && bytes(memory * 2 ** 20), share && `${share} %`].filter(Boolean).join(", ");
}

export async function showFunctions(element, _, signal) {
  const all = await json("system/services", { signal });
  element.append(h("section", { "aria-labelledby": "functions-title" },
    h("div", { class: "row" },
      h("h2", { id: "functions-title", class: "grow" }, "Functions"),
      mayChange() && h("a", { class: "button strong", href: "#edit" }, "New function")),
    table([
      ["Name", "brief", (one) => link(one.name, "function", one.name)],
      ["Takes", "long", (one) => (one.depends_on ? [`after ${one.depends_on.function}`] : [folders(one.input)])],
      ["Makes", "long", (one) => folders(one.output)],
      ["GPU", "brief", gpu],
      ["Owner", "brief", (one) => one.owner],
      ["Version", "brief", (one) => (one.version ? String(one.version) : "by a file")],
      ["", "brief", (one) => h("a", { href: `#jobs/${encodeURIComponent(new URLSearchParams({ function: one.name }))}`, "aria-label": `Jobs of ${one.name}` }, "jobs")],
    ], all, mayChange() ? "There is none yet: make one." : "There is none that you can see.")));
}
