// Elements, made of text alone: what comes from the server is never read as markup, since nothing here can.

const SVG = "http://www.w3.org/2000/svg";

export const at = (id) => document.getElementById(id);

// h("p", { class: "soft", onclick: f }, "text", child, …). Values that are false, null or undefined are left out.
export function h(name, properties = {}, ...children) {
  return filled(document.createElement(name), properties, children);
}

export function svg(name, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, name), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Where a link leads within the page; its parts may be any text.
export function place(...parts) {
  return `#${parts.map(encodeURIComponent).join("/")}`;
}

export function link(text, ...parts) {
  return h("a", { href: place(...parts) }, text);
}

// For those who do not see it.
export function say(text) {
  at("said").textContent = text;
}

let hiding = 0;

export function complain(error) {
  const text = typeof error === "string" ? error : error.message || String(error);
  at("message").textContent = text;
  at("message").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { at("message").hidden = true; }, 12000);
}

export function forgive() {
  at("message").hidden = true;
}

// What a button does: it is not pressed twice, and what goes wrong is said.
export function button(text, act, properties = {}) {
  return h("button", {
    type: "button",
    ...properties,
    onclick: async (event) => {
      const pressed = event.currentTarget;
      pressed.disabled = true;
      try {
        forgive();
        await act();
      } catch (error) {
        complain(error);
      } finally {
        pressed.disabled = false;
      }
    },
  }, text);
}

// Asks before something cannot be taken back.
export function sure(question, word) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": question, onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      h("form", { method: "dialog" },
        h("p", {}, question),
        h("div", { class: "row" }, h("button", { value: "yes", class: "danger" }, word), h("button", { value: "no", autofocus: true }, "Keep"))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

// A table from [heading, class, cell of a row], where a cell is text or elements; `empty`: what one without rows says.
export function table(kinds, rows, empty, foot) {
  if (rows.length === 0) return h("p", { class: "soft" }, empty);
  const line = (row, name) => h("tr", {}, kinds.map(([heading, kind, cell], index) =>
    // On a telephone a row is a card, whose cells say themselves what they are.
    h("td", { class: kind, "data-name": (index > 0 && heading) || null }, name && index === 0 ? name : cell(row))));
  return h("div", { class: "scroll" }, h("table", { class: "cards" },
    h("thead", {}, h("tr", {}, kinds.map(([heading, kind]) => h("th", { scope: "col", class: kind }, heading)))),
    h("tbody", {}, rows.map((row) => line(row))),
    foot && rows.length > 1 && h("tfoot", {}, line(foot, "all"))));
}

// A list of names and values; those without a value are left out.
export function facts(pairs) {
  return h("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

export function state(of) {
  return h("span", { class: `state ${of.state}` }, of.state.toLowerCase());
}

// A file to the person's own machine.
export function save(bytes, name) {
  const address = URL.createObjectURL(bytes instanceof Blob ? bytes : new Blob([bytes]));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}
