// What most pages are put together from: heads, cards, tables, tags, and the states of loading, empty and failed.
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { done, failed } from "./notices.js";
import { go } from "./router.js";

/** The head of a page: title, a sentence, buttons, the way back. */
export function head(title, { lead, actions = [], crumb } = {}) {
  return h(
    "div.page-head",
    crumb ? h("div.crumb", h("a", { href: crumb.href }, "‹ ", crumb.text)) : null,
    h("h1", { tabindex: "-1" }, title),
    actions.length ? h("div.row.actions", actions) : null,
    lead ? h("p.lead", h("span", lead)) : null,
  );
}

/** A card with a title; `end` stands at the right of it. */
export function card(title, content, { end, kind = "", flush = false, id } = {}) {
  return h(
    "section.card",
    { class: kind, id, "aria-label": title },
    title ? h("header", h("h2", title), end ? h("div.end", end) : null) : null,
    h(flush ? "div.flush" : "div.body", content),
  );
}

/** A button that does something, one at a time; what fails is told. */
export function button(text, action, { kind = "", name, small = false, label, disabled = false, why } = {}) {
  const made = h(
    "button.button",
    {
      type: "button",
      class: `${kind}${small ? " small" : ""}${text ? "" : " icon"}`,
      "aria-label": label,
      title: why ?? (text ? null : label),
      dataset: label && !text ? { action: label } : {},
      disabled,
    },
    name ? icon(name, small ? 15 : 17) : null,
    text,
  );
  made.addEventListener("click", async () => {
    if (made.hasAttribute("aria-busy")) return;
    made.setAttribute("aria-busy", "true");
    try {
      await action(made);
    } catch (error) {
      failed(error);
    } finally {
      made.removeAttribute("aria-busy");
    }
  });
  return made;
}

const KINDS = {
  up: "good",
  enabled: "good",
  active: "good",
  live: "good",
  healthy: "good",
  drain: "warn",
  disabled: "warn",
  retiring: "warn",
  published: "info",
  maint: "warn",
  behind: "warn",
  prepared: "info",
  down: "bad",
  revoked: "bad",
  silent: "bad",
  unhealthy: "bad",
  unreachable: "bad",
};

/** A word on a state, coloured by what it means. */
export function tag(text, kind = KINDS[text] ?? "") {
  return h("span.tag", { class: kind }, h("span.dot", { class: kind, "aria-hidden": "true" }), text);
}

/** A plain label. */
export function label(text, kind = "") {
  return h("span.tag", { class: kind }, text);
}

export function empty(title, text, ...more) {
  return h("div.empty", icon("inbox", 30), h("strong", title), text ? h("p", text) : null, more);
}

export function loading(lines = 6) {
  const bars = Array.from({ length: lines }, (_, place) =>
    h("span.skeleton", { style: { width: `${88 - ((place * 17) % 40)}%` } }),
  );
  return h("div", { role: "status", "aria-label": "Loading", class: "loading" }, bars);
}

/** An error in the place of what cannot be shown, with a way to try again. */
function trouble(error, again) {
  return h(
    "div.empty",
    { role: "alert" },
    icon("warn", 30),
    h("strong", error.status === 503 ? "The database is away" : "This cannot be shown now"),
    h("p", error.message),
    again ? button("Try again", again) : null,
  );
}

/**
 * Show in `place` what `load` gives (null: what is there stays), with states for loading and failure; returns a function
 * to do it again, whose arguments `load` gets. An answer that is overtaken by a later one is not shown.
 */
export function filled(place, load, signal) {
  let newest = 0;
  const run = async (...given) => {
    const turn = (newest += 1);
    const current = () => turn === newest && !signal?.aborted;
    if (!place.hasChildNodes()) fill(place, loading());
    place.setAttribute("aria-busy", "true");
    try {
      const content = await load(...given);
      if (current() && content !== null) refill(place, content);
    } catch (error) {
      if (current() && error.name !== "AbortError") fill(place, trouble(error, run));
    } finally {
      if (current()) place.removeAttribute("aria-busy");
    }
  };
  return run;
}

/** Put other content into a place; the focus stays at the element that stands where the focused one stood. */
export function refill(place, content) {
  const stops = () => [...place.querySelectorAll("a, button, input, select, textarea")];
  const at = stops().indexOf(document.activeElement);
  fill(place, content);
  if (at >= 0) stops()[at]?.focus({ preventScroll: true });
}

/**
 * A table. `columns`: {title, cell(row), number, sort, extra}, extra ones not on a phone; `to(row)`: where a row
 * leads; `sorting`: {by, turn(by)}.
 */
export function table(caption, columns, rows, { to, sorting } = {}) {
  const header = columns.map((column) =>
    h("th", { scope: "col", class: kindOf(column), "aria-sort": sortedBy(column, sorting) }, titleOf(column, sorting)),
  );
  const body = rows.map((row) => {
    const line = h(
      "tr",
      columns.map((column) =>
        h("td", { class: kindOf(column), dataset: { label: column.title } }, column.cell(row) || null),
      ),
    );
    if (to) leads(line, to(row));
    return line;
  });
  return h(
    "div.table-box",
    { tabindex: "0", role: "region", "aria-label": caption },
    h("table.stacking", h("caption.sr-only", caption), h("thead", h("tr", header)), h("tbody", body)),
  );
}

function kindOf({ number, extra }) {
  return [number ? "number" : "", extra ? "wide-only" : ""].join(" ").trim();
}

function titleOf(column, sorting) {
  if (!column.title) return h("span.sr-only", "What can be done");
  if (!column.sort || !sorting) return column.title;
  const down = sorting.by === `-${column.sort}`;
  const arrow = sorting.by === column.sort ? icon("up", 13) : down ? icon("down", 13) : null;
  return h(
    "button",
    { type: "button", onclick: () => sorting.turn(sorting.by === column.sort ? `-${column.sort}` : column.sort) },
    column.title,
    arrow,
  );
}

function sortedBy(column, sorting) {
  if (!column.sort || !sorting) return null;
  return sorting.by === column.sort ? "ascending" : sorting.by === `-${column.sort}` ? "descending" : "none";
}

function leads(line, place) {
  line.dataset.go = "";
  line.addEventListener("click", (event) => {
    if (!event.target.closest("a, button, input, select") && !String(getSelection())) go(place);
  });
}

/** Text with a button that copies it. */
export function copyable(text, name = "Copy") {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      done("Copied");
    } catch {
      failed(new Error("The browser does not let this page copy; select the text instead."));
    }
  };
  return h("div.copy", h("span", text), button("", copy, { name: "copy", small: true, kind: "quiet", label: name }));
}

/** Facts as a list of terms; an entry without a value is left out. */
export function facts(entries) {
  return h(
    "dl.facts",
    entries
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .map(([term, value]) => [h("dt", term), h("dd", value)]),
  );
}

/** Let the browser save `text` as a file. */
export function save(name, text, type = "application/json") {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
