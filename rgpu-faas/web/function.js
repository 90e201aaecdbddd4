// One function: what it is, an input to try it with, its versions; and the editor of its definition.

import { at, button, complain, facts, forgive, h, link, place, say, sure, table } from "./dom.js";
import { ask, json, mayChange, me, path, post, remove } from "./ask.js";
import { bytes, duration, moment } from "./format.js";
import { EXAMPLE, yaml } from "./definition.js";
import { editor } from "./editor.js";
import { isFile } from "./functions.js";

export async function showFunction(element, [name = ""], signal) {
  const one = await json(path("system", "services", name), { signal });
  const sections = [described(one)];
  if (mayChange()) sections.push(trial(one));
  element.append(...sections);
  const { versions } = await json(path("system", "services", name, "versions"), { signal });
  element.append(history(one, versions));
}

function described(one) {
  const jobs = `#jobs/${encodeURIComponent(new URLSearchParams({ function: one.name }))}`;
  const list = (channels) => channels.map((channel) => channel.path).join(", ");
  const { vgpu } = one;
  return h("section", { "aria-labelledby": "function-title" },
    h("div", { class: "row" },
      h("h2", { id: "function-title", class: "grow" }, one.name),
      h("a", { class: "button", href: jobs }, "Jobs"),
      h("a", { class: "button", href: `#edit/${encodeURIComponent(one.name)}` }, isFile(one) || !mayChange() ? "Definition" : "Edit"),
      mayChange() && me.credentials && button("New token", () => renew(one.name)),
      mayChange() && !isFile(one) && button("Delete", async () => {
        if (!await sure(`Delete the function ${one.name}? Its jobs that wait or run are cancelled, and its versions forgotten.`, "Delete")) return;
        await remove(path("system", "services", one.name));
        location.hash = "#functions";
        say(`${one.name} is deleted`);
      }, { class: "danger" })),
    one.warnings.length > 0 && h("ul", {}, one.warnings.map((text) => h("li", { class: "soft" }, text))),
    facts([
      ["Defined by", isFile(one) ? one.source.file : `version ${one.version}${one.owner ? `, by ${one.owner}` : ""}`],
      ["Takes", list(one.input)],
      ["Makes", list(one.output)],
      ["After", one.depends_on && link(one.depends_on.function, "function", one.depends_on.function)],
      ["Image", one.image],
      ["Memory", one.memory],
      ["GPU", one.enable_gpu ? [vgpu.profile, vgpu.memory_mib && bytes(vgpu.memory_mib * 2 ** 20), vgpu.share && `${vgpu.share} % of its time`, vgpu.need !== "unsaid" && vgpu.need].filter(Boolean).join(", ") : "none"],
      ["At once", one.concurrency],
      ["Time limit", duration(one.timeout)],
      ["Attempts", one.retry.attempts],
    ]));
}

async function renew(name) {
  if (!await sure(`Make a new token for ${name}? The old one is worth nothing then.`, "Make one")) return;
  const { token } = await post(path("access", "tokens", name));
  await shown({ [name]: token });
}

// Tokens are shown once.
function shown(tokens) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": "Tokens", onclose: () => { dialog.remove(); resolve(); } },
      h("p", {}, "Who shows this may call the function. It is shown now, and never again."),
      Object.entries(tokens).map(([name, token]) => h("div", {}, h("p", {}, name), h("pre", { tabindex: 0 }, token))),
      h("form", { method: "dialog" }, h("button", { class: "strong" }, "Done")));
    document.body.append(dialog);
    dialog.showModal();
  });
}

// ---- try it

// The file as a call's body. JSON is taken as it is; what else there is goes as base64, so that the function gets it to the byte: broken
// in two lines, as no JSON is.
async function body(file) {
  if (file.size === 0) return "";
  if (file.size < 64 << 10) {
    const text = await file.text();
    try {
      JSON.parse(text);
      return file;
    } catch {
      // No JSON.
    }
  }
  const address = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
  const text = address.slice(address.indexOf(",") + 1);
  return `${text.slice(0, 2)}\n${text.slice(2)}`;
}

async function run(name, file) {
  // Not waited for here, but its result is kept; the job's page shows it.
  const words = new URLSearchParams({ timeout: "0s", ...(file ? { filename: file.name } : {}) });
  const answer = await ask(`${path("run", name)}?${words}`, { method: "POST", body: file ? await body(file) : "" });
  location.hash = `#job/${encodeURIComponent(answer.headers.get("X-Job-Id"))}`;
}

function trial(one) {
  const begin = async (files) => {
    forgive();
    // Each its own job; the last one is shown.
    for (const file of files) {
      say(`${file.name} is sent`);
      await run(one.name, file);
    }
  };
  const chosen = h("input", { type: "file", multiple: true, "aria-label": `A file to try ${one.name} with`, onchange: () => begin([...chosen.files]).catch(complain) });
  const zone = h("div", {
    class: "drop",
    ondragover: (event) => { event.preventDefault(); zone.classList.add("over"); },
    ondragleave: () => zone.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      begin([...event.dataTransfer.files]).catch(complain);
    },
  }, h("p", {}, "Drop a file here, or choose one"), chosen);
  const sample = one.annotations["rgpu.io/sample"];
  return h("section", { "aria-labelledby": "trial-title" },
    h("h2", { id: "trial-title" }, "Try it"),
    zone,
    h("div", { class: "row" },
      sample && button("Run the sample input", async () => {
        const answer = await ask(path("system", "services", one.name, "sample"));
        const said = /filename\*=UTF-8''([^;]+)/.exec(answer.headers.get("Content-Disposition") || "");
        await run(one.name, new File([await answer.blob()], said ? decodeURIComponent(said[1]) : "sample"));
      }, { class: "strong" }),
      button("Run without input", () => run(one.name, null))));
}

// ---- versions

function history(one, versions) {
  const act = (version) => !version.current && mayChange() && !isFile(one) && button("Restore", async () => {
    await post(path("system", "services", one.name, "versions", version.version, "restore"));
    say(`version ${version.version} is the newest again`);
    dispatchEvent(new HashChangeEvent("hashchange"));
  }, { "aria-label": `Restore version ${version.version}` });
  return h("section", { "aria-labelledby": "versions-title" },
    h("h2", { id: "versions-title" }, "Versions"),
    table([
      ["Version", "brief", (version) => `${version.version}${version.current ? " (now)" : ""}`],
      ["When", "brief", (version) => moment(version.time)],
      ["By", "brief", (version) => version.owner],
      ["Definition", "long", (version) => version.definition && h("details", {}, h("summary", {}, "show"), h("pre", { tabindex: 0 }, yaml(version.definition)))],
      ["", "brief", act],
    ], versions, "Versions are kept of functions that came over the network; this one's file has its own history."));
}

// ---- its definition

export async function editFunction(element, [name], signal) {
  let text = EXAMPLE, readOnly = !mayChange();
  if (name) {
    const [one, definition] = await Promise.all([json(path("system", "services", name), { signal }), json(path("system", "services", name, "definition"), { signal })]);
    text = yaml(definition);
    readOnly ||= isFile(one);
  }
  const register = button(name ? "Save" : "Register", async () => {
    const answer = await post("system/services", written.text(), { "Content-Type": "application/yaml" });
    if (answer.tokens && Object.keys(answer.tokens).length) await shown(answer.tokens);
    location.hash = `#function/${encodeURIComponent(answer.functions[0].name)}`;
    say("it is registered");
  }, { class: "strong", disabled: true });
  const written = editor(text, {
    readOnly, signal,
    onchecked: (answer) => { register.disabled = answer.problems.length > 0 || answer.functions.length === 0; },
  });
  const open = h("input", {
    type: "file", accept: ".yaml,.yml,.json", "aria-label": "Open a definition file",
    onchange: async () => {
      const area = at("definition");
      area.value = await open.files[0].text();
      area.dispatchEvent(new Event("input"));
    },
  });
  element.append(h("section", { "aria-labelledby": "edit-title" },
    h("h2", { id: "edit-title" }, name ? `Definition of ${name}` : "New function"),
    readOnly
      ? h("p", { class: "soft" }, "It can be looked at here, and changed where it is defined.")
      : h("div", { class: "row" }, h("p", { class: "grow soft" }, "It is checked while you write."), open),
    written.element,
    h("div", { class: "row" }, !readOnly && register, name && h("a", { class: "button", href: place("function", name) }, "Back"))));
}
