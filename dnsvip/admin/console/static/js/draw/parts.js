// @ts-check
// What most pages are put together from: heads, cards, buttons, tags, and the states of loading, empty and failed.
import { Problem } from "../api/api.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { done, failed } from "./notices.js";
import { reconcile } from "./reconcile.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * The head of a page: title, a sentence, buttons, the way back.
 * @param {string} title
 * @param {{ lead?: Child, actions?: Child[], crumb?: { href: string, text: string } }} [more]
 */
export function head(title, { lead, actions = [], crumb } = {}) {
  return h(
    "div.page-head",
    crumb ? h("div.crumb", h("a", { href: crumb.href }, "‹ ", crumb.text)) : null,
    h("h1", { tabindex: "-1" }, title),
    actions.length ? h("div.row.actions", actions) : null,
    lead ? h("p.lead", h("span", lead)) : null,
  );
}

/**
 * A card with a title; `end` stands at the right of it.
 * @param {string} title
 * @param {Child} content
 * @param {{ end?: Child, kind?: string, flush?: boolean, id?: string }} [more]
 */
export function card(title, content, { end, kind = "", flush = false, id } = {}) {
  return h(
    "section.card",
    { class: kind, id, "aria-label": title, dataset: id ? { key: id } : {} },
    title ? h("header", h("h2", title), end ? h("div.end", end) : null) : null,
    h(flush ? "div.flush" : "div.body", content),
  );
}

/**
 * A button that does something, one at a time; a failure is shown.
 * @param {string} text
 * @param {() => unknown} action
 * @param {{ kind?: string, name?: string, small?: boolean, label?: string }} [more]  `name` of its icon
 */
export function button(text, action, { kind = "", name, small = false, label } = {}) {
  const act = async (/** @type {MouseEvent} */ event) => {
    const pressed = /** @type {HTMLElement} */ (event.currentTarget);
    if (pressed.hasAttribute("aria-busy")) return;
    pressed.setAttribute("aria-busy", "true");
    try {
      await action();
    } catch (error) {
      failed(error);
    } finally {
      pressed.removeAttribute("aria-busy");
    }
  };
  return h(
    "button.button",
    {
      type: "button",
      class: `${kind}${small ? " small" : ""}${text ? "" : " icon"}`,
      "aria-label": label,
      title: text ? null : label,
      dataset: label && !text ? { action: label } : {},
      onclick: act,
    },
    name ? icon(name, small ? 15 : 17) : null,
    text,
  );
}

/** @type {Record<string, string>} */
const KINDS = {
  up: "good",
  enabled: "good",
  active: "good",
  live: "good",
  healthy: "good",
  forward: "good",
  drain: "warn",
  disabled: "warn",
  retiring: "warn",
  published: "info",
  maint: "warn",
  behind: "warn",
  prepared: "info",
  down: "bad",
  drop: "bad",
  revoked: "bad",
  silent: "bad",
  stopped: "bad",
  unhealthy: "bad",
  unreachable: "bad",
};

/**
 * A word on a state, coloured by what it means.
 * @param {string} text
 */
export function tag(text, kind = KINDS[text] ?? "") {
  return h("span.tag", { class: kind }, h("span.dot", { class: kind, "aria-hidden": "true" }), text);
}

/**
 * A plain label.
 * @param {string} text
 */
export function label(text, kind = "") {
  return h("span.tag", { class: kind }, text);
}

/**
 * @param {string} title
 * @param {Child} [text]
 * @param {...Child} more
 */
export function empty(title, text, ...more) {
  return h("div.empty", icon("inbox", 30), h("strong", title), text ? h("p", text) : null, more);
}

/**
 * A label within a sentence; what is written in capitals stays so.
 * @param {string} label
 */
export function titleIn(label) {
  return /^[A-Z][a-z]/.test(label) ? label.toLowerCase() : label;
}

/**
 * In the place of what the session's token may not see: hidden, which is not the same as none.
 * @param {string} what
 */
export function hidden(what) {
  return h(
    "div.empty",
    { dataset: { hidden: "" } },
    icon("lock", 30),
    h("strong", "Hidden"),
    h("p", `This token may not see ${what}.`),
  );
}

export function loading(lines = 6) {
  const bars = Array.from({ length: lines }, (_, place) =>
    h("span.skeleton", { style: { width: `${88 - ((place * 17) % 40)}%` } }),
  );
  return h("div", { role: "status", "aria-label": "Loading", class: "loading" }, bars);
}

/**
 * An error in the place of what cannot be shown, with a way to try again.
 * @param {any} error
 * @param {() => unknown} again
 */
function trouble(error, again) {
  return h(
    "div.empty",
    { role: "alert" },
    icon("warn", 30),
    h("strong", error.status === 503 ? "The database is unavailable" : "This cannot be shown now"),
    h("p", error.message),
    button("Try again", again),
  );
}

/**
 * Show in `place` what `load` gives (null: what is there stays), with states for loading and failure. Returns a function
 * to do it again, whose arguments `load` gets. An answer that is overtaken by a later one is not shown, and what stays
 * the same keeps its focus and what was typed.
 * @template {unknown[]} A
 * @param {HTMLElement} place
 * @param {(...given: A) => Child | Promise<Child>} load
 * @param {AbortSignal} [signal]
 */
export function filled(place, load, signal) {
  let newest = 0;
  const run = async (/** @type {A} */ ...given) => {
    const turn = (newest += 1);
    const current = () => turn === newest && !signal?.aborted;
    if (!place.hasChildNodes()) fill(place, loading());
    place.setAttribute("aria-busy", "true");
    try {
      const content = await load(...given);
      if (current() && content !== null) reconcile(place, content);
    } catch (error) {
      const aborted = error instanceof Error && error.name === "AbortError";
      if (current() && !aborted)
        fill(
          place,
          trouble(error, () => run(...given)),
        );
    } finally {
      if (current()) place.removeAttribute("aria-busy");
    }
  };
  return run;
}

/**
 * A `load` for `filled` on pages that ask again by themselves: while the node or its database is away, what has been
 * shown stays, and the frame says what is away.
 * @template T
 * @param {() => Promise<T>} load
 * @returns {() => Promise<T | null>}
 */
export function lasting(load) {
  let shown = false;
  return async () => {
    try {
      const content = await load();
      shown = true;
      return content;
    } catch (error) {
      if (shown && error instanceof Problem && (error.status === 503 || error.status === 0)) return null;
      throw error;
    }
  };
}

/**
 * Text with a button that copies it.
 * @param {string} text
 */
export function copyable(text, name = "Copy") {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      done("Copied");
    } catch {
      failed(new Error("The browser does not allow this page to copy; select the text instead."));
    }
  };
  return h("div.copy", h("span", text), button("", copy, { name: "copy", small: true, kind: "quiet", label: name }));
}

/**
 * Facts as a list of terms; an entry without a value is left out.
 * @param {[string, Child][]} entries
 */
export function facts(entries) {
  return h(
    "dl.facts",
    entries
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .map(([term, value]) => [h("dt", term), h("dd", value)]),
  );
}

/**
 * Let the browser save `text` as a file.
 * @param {string} name
 * @param {string} text
 */
export function save(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
