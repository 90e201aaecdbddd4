// The page: who is there, which part of it is shown, and its colours.

import { at, complain, forgive, h } from "./dom.js";
import { Refusal, logIn, logOut, mayChange, me, onEnd, takeKey, whoAmI } from "./ask.js";
import { showFunctions } from "./functions.js";
import { editFunction, showFunction } from "./function.js";
import { showJobs } from "./jobs.js";
import { showJob } from "./job.js";
import { showDead } from "./dead.js";
import { showFiles } from "./files.js";
import { showUsage } from "./usage.js";

// What the address names, which part of the page that belongs to, and what shows it: given the element, the rest of the address, and a
// signal that ends when something else is shown.
const VIEWS = {
  functions: ["functions", "Functions", showFunctions],
  function: ["functions", "Function", showFunction],
  edit: ["functions", "Definition", editFunction],
  jobs: ["jobs", "Jobs", showJobs],
  job: ["jobs", "Job", showJob],
  dead: ["dead", "Dead letters", showDead],
  files: ["files", "Files", showFiles],
  usage: ["usage", "Usage", showUsage],
};

let leaving = new AbortController();

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  let parts;
  try {
    parts = location.hash.slice(1).split("/").map(decodeURIComponent);
  } catch {
    parts = [];
  }
  const [part, title, view] = VIEWS[parts[0]] || VIEWS.functions;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${part}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = [title, ...parts.slice(1, 2)].join(" ");
  forgive();
  const place = h("div", {});
  at("main").replaceChildren(place);
  try {
    at("main").setAttribute("aria-busy", "true");
    await view(place, parts.slice(1), signal);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error.status !== 401) place.append(h("section", {}, h("h2", {}, title), h("p", {}, error.message)));
    if (!(error instanceof Refusal)) throw error;
  } finally {
    if (!signal.aborted) at("main").removeAttribute("aria-busy");
  }
}

// Who is there, and then what they came for.
async function enter() {
  await whoAmI();
  const isKnown = me !== null;
  at("entry").hidden = isKnown;
  at("main").hidden = !isKnown;
  at("out").hidden = !isKnown || !me.credentials;
  at("who").textContent = isKnown ? [me.user, me.role].filter(Boolean).join(", ") : "";
  const readOnly = isKnown && !me.credentials && !mayChange();
  at("notice").hidden = !readOnly;
  at("notice").textContent = readOnly
    ? "You can look at everything here and change nothing. Open the page at the address that rgpu-faas printed when it started (\"page\"), which has a key in it, or start it with --token."
    : "";
  if (isKnown) return show();
  leaving.abort();
  at("main").replaceChildren();
  at("name").focus();
}

onEnd(() => enter().catch(complain));

at("entry").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    forgive();
    await logIn(at("name").value.trim(), at("password").value.trim());
    at("password").value = "";
    await enter();
    at("main").focus();
  } catch (error) {
    complain(error);
    at("password").focus();
  }
});

at("out").addEventListener("click", async () => {
  try {
    await logOut();
  } catch (error) {
    if (error.status !== 401) complain(error);
  }
  await enter();
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});

addEventListener("hashchange", () => {
  if (takeKey()) {
    enter().catch(complain);
    return;
  }
  if (me === null) return;
  show();
  at("main").focus();
});

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

takeKey();
enter().catch(complain);
