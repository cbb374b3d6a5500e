// @ts-check
// The search at the top of every page: while one types, the best of each kind below it (a combobox, ARIA 1.2).
import { fill, fresh, h } from "../draw/dom.js";
import { grouped, inWords, placeOf, search } from "./found.js";
import { icon } from "../draw/icons.js";
import { go } from "./router.js";

const WAIT_MS = 200;
const EACH = 5;
const WORDS = "Find a name, an address, a record";

/** The field with its list. */
export function finder() {
  const list = h("div.find-list", { id: "found", role: "listbox", "aria-label": "Found", hidden: true });
  const said = h("span.sr-only", { role: "status", "aria-live": "polite" });
  const field = h("input", {
    type: "search",
    id: "find",
    role: "combobox",
    placeholder: matchMedia("(max-width: 620px)").matches ? "Find" : WORDS,
    "aria-label": WORDS,
    "aria-expanded": "false",
    "aria-controls": "found",
    "aria-autocomplete": "list",
    autocomplete: "off",
    spellcheck: "false",
    maxlength: "254",
  });
  const form = h(
    "form.find",
    { role: "search" },
    icon("search", 16),
    field,
    h("kbd", { "aria-hidden": "true" }, "/"),
    list,
    said,
  );
  let under = new AbortController();
  let timer = 0;

  const options = () => [.../** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll("[role=option]"))];
  const active = () => options().find((option) => option.getAttribute("aria-selected") === "true");
  const close = () => {
    clearTimeout(timer);
    under.abort();
    list.hidden = true;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  };
  const leave = () => {
    close();
    field.value = "";
    field.blur();
  };
  const draw = (/** @type {import("./found.js").Found} */ found) => {
    fill(list, grouped(found).map(group), notes(found));
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    field.removeAttribute("aria-activedescendant");
    said.textContent = found.items.length ? `${found.items.length} found` : "Nothing found";
  };
  const run = async () => {
    under.abort();
    under = new AbortController();
    const { signal } = under;
    const text = field.value.trim();
    if (!text) return close();
    try {
      const found = await search(text, EACH, signal);
      if (!signal.aborted && document.activeElement === field) draw(found);
    } catch (error) {
      if (!signal.aborted) {
        fill(list, h("p.find-note", /** @type {Error} */ (error).message));
        list.hidden = false;
      }
    }
  };
  const move = (/** @type {number} */ step) => {
    const all = options();
    if (!all.length) return;
    const at = all.findIndex((option) => option === active());
    const next = all[(at + step + all.length + (at < 0 && step < 0 ? 1 : 0)) % all.length];
    all.forEach((option) => option.setAttribute("aria-selected", String(option === next)));
    if (next) {
      field.setAttribute("aria-activedescendant", next.id);
      next.scrollIntoView({ block: "nearest" });
    }
  };
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(run, WAIT_MS);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      event.stopPropagation(); // a second one leaves the field
      close();
    }
  });
  field.addEventListener("blur", () => close());
  list.addEventListener("mousedown", (event) => event.preventDefault()); // which would take the focus away
  list.addEventListener("click", (event) => {
    const option = event.target instanceof Element ? event.target.closest("[role=option]") : null;
    if (option instanceof HTMLElement) open(option);
  });
  const open = (/** @type {HTMLElement} */ option) => {
    const { place = "" } = option.dataset;
    leave();
    location.hash = place;
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    const option = list.hidden ? undefined : active();
    if (option) return open(option);
    if (!text) return;
    leave();
    go("search", { q: text, go: 1 });
  });
  return form;
}

/** @param {ReturnType<typeof grouped>[number]} group */
function group({ title, icon: name, items }) {
  const id = fresh("found");
  return h(
    "div.find-group",
    { role: "group", "aria-labelledby": id },
    h("div.find-title", { id, role: "presentation" }, title),
    items.map((item) =>
      h(
        "div.find-item",
        { id: fresh("option"), role: "option", "aria-selected": "false", dataset: { place: placeOf(item) } },
        icon(name, 15),
        h("span.find-name", item.name),
        item.of ? h("span.find-of.faint", `in ${item.of}`) : null,
        item.detail ? h("span.find-detail.soft", item.detail) : null,
      ),
    ),
  );
}

/** @param {import("./found.js").Found} found */
function notes(found) {
  return [
    found.items.length ? null : h("p.find-note", "Nothing that this token may see has this in it."),
    found.more.length ? h("p.find-note", "Enter shows more.") : null,
    found.incomplete.length
      ? h("p.find-note.warn-text", `Not looked at to the end: ${inWords(found.incomplete)}.`)
      : null,
  ];
}
