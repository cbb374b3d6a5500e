// @ts-check
// The dialog in which one record set is edited: its records as rows, with help and checks for its type.
import { fill, h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { open } from "../draw/notices.js";
import { button } from "../draw/parts.js";
import { absolute, keyOf, wrongs } from "./sets.js";
import { contentFault, formOf, OTHERS, tidied, TYPES } from "./types.js";

/** @typedef {import("./sets.js").RecordSet} RecordSet */
/** @typedef {import("./sets.js").ZoneRecord} ZoneRecord */
/** @typedef {{ element: HTMLElement, field: HTMLElement, input: HTMLInputElement, off: HTMLInputElement }} Row */

const TTL = 3600;

/**
 * Edit a set, or with `given` null a new one; `apply` gets it when nothing is wrong with it. `isTaken` tells whether there
 * is a set of that key; `faults` are shown from the start.
 * @param {string} zone
 * @param {RecordSet | null} given
 * @param {{ apply: (set: RecordSet) => unknown, isTaken: (key: string) => boolean, faults?: import("./sets.js").Wrong[] }} how
 */
export function editSet(zone, given, { apply, isTaken, faults = [] }) {
  const name = form.text(given?.name ?? "", { class: "mono", maxlength: "1024" });
  const type = form.choice(given?.type ?? "A", given ? [given.type] : [...Object.keys(TYPES), ...OTHERS]);
  const ttl = form.number(given?.ttl ?? TTL, { min: 0, max: 2 ** 31 - 1, step: "1" });
  const help = h("div.type-help");
  const list = h("div.form-rows.record-rows");
  /** @type {Row[]} */
  const rows = [];
  const check = (/** @type {Row} */ row) => {
    row.input.value = tidied(type.value, row.input.value);
    say(row, row.input.value ? contentFault(type.value, row.input.value) : null);
  };
  const add = (/** @type {ZoneRecord} */ record) => {
    const row = rowOf(record, () => {
      rows.splice(rows.indexOf(row), 1);
      row.element.remove();
      number(rows);
      (rows.at(-1)?.input ?? more).focus();
    });
    row.input.addEventListener("change", () => check(row));
    rows.push(row);
    list.append(row.element);
    number(rows);
    return row;
  };
  const more = button("Add record", () => add({ content: "", disabled: false }).input.focus(), {
    name: "plus",
    small: true,
  });
  const explain = () => {
    fill(help, helpOf(type.value));
    rows.filter(({ input }) => input.value).forEach(check);
  };
  for (const record of given?.records ?? [{ content: "", disabled: false }]) add(record);
  type.addEventListener("change", explain);
  explain();
  const cancel = h("button.button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    h(
      "div.form-grid",
      given
        ? null
        : form.field("Name", "name", name, { hint: `Below ${zone} unless it ends in a dot; @ is ${zone} itself.` }),
      given ? null : form.field("Type", "type", type),
      form.field("TTL", "ttl", ttl, { unit: "s" }),
    ),
    help,
    form.group("Records", "records", [list, h("div", more)]),
    h("div.row.buttons", cancel, h("button.button.main-action", { type: "submit" }, "Apply")),
  );
  const read = () => ({
    name: given?.name ?? absolute(zone, name.value),
    type: type.value,
    ttl: ttl.value === "" ? NaN : Number(ttl.value),
    records: rows.map(({ input, off }) => ({ content: tidied(type.value, input.value), disabled: off.checked })),
    comments: given?.comments ?? [],
  });
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    const set = read();
    const errors = wrongs(zone, set);
    if (!given && !name.value.trim()) errors.unshift({ where: "name", message: "A name is required; @ is the zone." });
    else if (!given && isTaken(keyOf(set)))
      errors.unshift({ where: "name", message: `has ${set.type} records already; edit those` });
    form.clear(element);
    if (errors.length) return form.show(element, { errors });
    apply(set);
    dialog.close();
  });
  const title = given ? `${given.name} ${given.type}` : "New record set";
  const dialog = open(title, element, { wide: true });
  if (faults.length) form.show(element, { errors: faults });
  else (given ? rows[0]?.input : name)?.focus();
}

/**
 * @param {ZoneRecord} record
 * @param {() => unknown} remove
 * @returns {Row}
 */
function rowOf(record, remove) {
  const input = form.text(record.content, { class: "mono" });
  const off = h("input", { type: "checkbox", checked: record.disabled });
  const field = form.field("Record", "", input, { quiet: true });
  const element = h(
    "div.form-row.record-row",
    field,
    h("label.row.soft", { title: "Kept, and not served" }, off, "Disabled"),
    h("div.row", button("", remove, { name: "trash", small: true, kind: "quiet", label: "Remove this record" })),
  );
  return { element, field, input, off };
}

/**
 * Give rows the numbers that errors name them by.
 * @param {Row[]} rows
 */
function number(rows) {
  for (const [place, { field }] of rows.entries()) {
    field.dataset["path"] = `${place}`;
    const label = field.querySelector("label");
    if (label) label.textContent = `Record ${place + 1}`;
  }
}

/**
 * @param {Row} row
 * @param {string | null} fault
 */
function say({ field, input }, fault) {
  const error = field.querySelector(".error");
  if (error) error.textContent = fault ?? "";
  if (fault) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** @param {string} type */
function helpOf(type) {
  const known = TYPES[type];
  if (!known) return h("p", "As in a zone file; names in it are whole and end in a dot.");
  return [
    h("p", known.help),
    h("dl.facts", h("dt", "Form"), h("dd.mono", formOf(known)), h("dt", "Example"), h("dd.mono", known.example)),
  ];
}
