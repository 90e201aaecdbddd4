// Files in the runner's own storage: list, download, upload, delete.

import { button, complain, forgive, h, link, say, sure, table } from "./dom.js";
import { ask, json, path, put, remove } from "./ask.js";
import { bytes, moment } from "./format.js";

const address = (bucket, key) => `files/${encodeURIComponent(bucket)}/${key.split("/").map(encodeURIComponent).join("/")}`;

export async function showFiles(element, [bucket, prefix = "", after], signal) {
  const { buckets, own } = await json("files", { signal });
  const folder = prefix || own || "";
  const section = h("section", { "aria-labelledby": "files-title" }, h("h2", { id: "files-title" }, "Files"));
  element.append(section);
  if (buckets.length === 0) {
    section.append(h("p", { class: "soft" }, "There is no bucket yet; one is made with the first function that names it."));
    return;
  }
  const current = bucket || buckets[0];
  const go = (...parts) => { location.hash = `#files/${parts.map(encodeURIComponent).join("/")}`; };
  const prefixField = h("input", { id: "prefix", value: folder, placeholder: own || "all", spellcheck: "false" });
  section.append(h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); go(current, prefixField.value); } },
    h("label", {}, "Bucket", h("select", { id: "bucket", onchange: (event) => go(event.target.value) },
      [...new Set([...buckets, current])].map((name) => h("option", { value: name, selected: name === current }, name)))),
    h("label", {}, "Folder", prefixField),
    h("button", {}, "Show")));
  const words = new URLSearchParams({ prefix: folder, ...(after ? { after } : {}) });
  const listed = await json(`${path("files", current)}?${words}`, { signal });
  const again = async (text) => {
    element.replaceChildren();
    await showFiles(element, [current, folder, after], signal);
    say(text);
  };
  const upload = async (files) => {
    forgive();
    for (const file of files) {
      const key = [folder.replace(/\/$/, ""), file.name].filter(Boolean).join("/");
      await put(address(current, key), file);
    }
    await again(`${files.length} files are there`);
  };
  const chosen = h("input", { type: "file", multiple: true, "aria-label": "Files to upload", onchange: () => upload([...chosen.files]).catch(complain) });
  const zone = h("div", {
    class: "drop",
    ondragover: (event) => { event.preventDefault(); zone.classList.add("over"); },
    ondragleave: () => zone.classList.remove("over"),
    ondrop: (event) => { event.preventDefault(); zone.classList.remove("over"); upload([...event.dataTransfer.files]).catch(complain); },
  }, h("p", {}, `Drop files here to put them into ${[current, folder].filter(Boolean).join("/")}, or choose some`), chosen);
  section.append(zone, table([
    ["Name", "long", (file) => h("a", { href: address(current, file.key), download: file.key.split("/").at(-1) }, file.key)],
    ["Size", "brief", (file) => bytes(file.size)],
    ["Changed", "brief", (file) => moment(file.modified)],
    ["", "brief", (file) => button("Delete", async () => {
      if (!await sure(`Delete ${file.key}?`, "Delete")) return;
      await remove(address(current, file.key));
      await again(`${file.key} is deleted`);
    }, { "aria-label": `Delete ${file.key}` })],
  ], listed.files, "There is no file here."));
  if (listed.unusable) section.append(h("p", { class: "soft" }, `${listed.unusable} more have names that cannot be used here.`));
  if (listed.next) section.append(h("p", {}, link("The next ones", "files", current, folder, listed.next)));
}
