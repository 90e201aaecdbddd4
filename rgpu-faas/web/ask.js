// Questions to the server, with what it wants to be shown: a session's cookie, which the browser sends, and its second secret; or, where
// there are no credentials, the key that came with the page's address.

export class Refusal extends Error {
  constructor(status, text) { super(text); this.status = status; }
}

// Who one is, as /access/me says.
export let me = null;
let secret = sessionStorage.getItem("key") || "";
let ended = () => {};

export const mayChange = () => me !== null && me.role !== "viewer" && (me.credentials || me.key);
export const isAdministrator = () => me !== null && me.role === "administrator";

// What is done when the session has ended.
export function onEnd(act) {
  ended = act;
}

export async function ask(path, { method = "GET", headers = {}, body, signal, quiet } = {}) {
  let answer;
  try {
    const shown = secret ? { "X-CSRF-Token": secret } : {};
    answer = await fetch(path, { method, headers: { ...shown, ...headers }, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "the server does not answer");
  }
  if (answer.ok || answer.status === 304) return answer;
  const said = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !quiet) ended();
  const wait = answer.headers.get("Retry-After");
  throw new Refusal(answer.status, `${said.error || `the server answers ${answer.status}`}${wait ? ` (in ${wait} s)` : ""}`);
}

export async function json(path, options) {
  const answer = await ask(path, options);
  return answer.status === 204 ? null : answer.json();
}

export const post = (path, body, headers) => json(path, { method: "POST", body, headers });
export const put = (path, body, headers) => json(path, { method: "PUT", body, headers });
export const remove = (path) => json(path, { method: "DELETE" });

// A path of the server's, whose parts may be any text.
export function path(...parts) {
  return parts.map(encodeURIComponent).join("/");
}

// The key in the address goes from there into this window's memory, so that nobody reads it over a shoulder or in a history. Whether there
// was one.
export function takeKey() {
  const found = /^#key=([0-9a-f]{64})$/.exec(location.hash);
  if (!found) return false;
  secret = found[1];
  sessionStorage.setItem("key", secret);
  history.replaceState(null, "", `${location.pathname}#functions`);
  return true;
}

export async function whoAmI() {
  try {
    me = await json("access/me", { quiet: true });
    if (me.csrf) secret = me.csrf;
  } catch (error) {
    if (error.status !== 401) throw error;
    me = null;
  }
  return me;
}

export async function logIn(name, password) {
  const utf8 = (text) => String.fromCharCode(...new TextEncoder().encode(text));
  const authorization = name ? `Basic ${btoa(utf8(`${name}:${password}`))}` : `Bearer ${password}`;
  const answer = await json("access/login", { method: "POST", headers: { Authorization: authorization }, quiet: true });
  secret = answer.csrf;
  return whoAmI();
}

export async function logOut() {
  await post("access/logout");
  secret = "";
  me = null;
}
