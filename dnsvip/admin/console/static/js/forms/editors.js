// @ts-check
// The control for a plain field, chosen by its schema: a checkbox, a choice, a number, a line or a page of text.
import { h } from "../draw/dom.js";
import * as form from "./form.js";
import { choicesOf, labelOf, uiOf } from "../api/schema.js";

/** @typedef {import("../api/schema.js").Schema} Schema */
/** @typedef {import("../api/schema.js").Choice} Choice */

/** @typedef {{ element: HTMLElement, value: () => any }} Editor  a field and what has been entered; undefined: nothing */

/**
 * What editors draw from: the API's description, the objects of the kinds that fields refer to, and for a field, which
 * of those it may name.
 * @typedef {{
 *   document: import("../api/schema.js").Document,
 *   objects: Map<string, any[]>,
 *   fresh?: boolean,
 *   readonly?: boolean,
 *   narrow: Record<string, (object: any) => boolean>,
 * }} Kit
 */

/** @typedef {{ quiet?: boolean, required?: boolean }} How  a quiet label is for screen readers */

/**
 * The editor of a field that is neither a list nor a table.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {How} [how]
 * @returns {Editor}
 */
export function plain(kit, key, schema, value, how = {}) {
  if (schema.type === "boolean") return checkbox(key, schema, value);
  const choices = choicesOf(schema);
  if (choices) return chosen(key, schema, value, choices, how);
  const objects = kit.objects.get(uiOf(schema).refers ?? "");
  if (objects) return reference(kit, key, schema, value, objects, how);
  if (schema.type === "integer" || schema.type === "number") return number(key, schema, value, how);
  if (schema.type === "words") return words(key, schema, value, how);
  if (schema.contentMediaType) return page(key, schema, value, how);
  return line(kit, key, schema, value, how);
}

/**
 * @param {string} key
 * @param {Schema} schema
 * @param {form.Control} control
 * @param {How} how
 * @param {{ hint?: import("../draw/dom.js").Child, kind?: string }} [more]
 */
function labelled(key, schema, control, how, more = {}) {
  const { help, unit = "" } = uiOf(schema);
  const label = labelOf(key, schema);
  const shown = !how.quiet && label.toLowerCase().includes(unit) ? "" : unit;
  return form.field(label, key, control, { hint: how.quiet ? null : help, unit: shown, ...how, ...more });
}

/**
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @returns {Editor}
 */
function checkbox(key, schema, value) {
  const control = h("input", { type: "checkbox", checked: Boolean(value ?? schema.default ?? false) });
  const { help } = uiOf(schema);
  const element = form.field(labelOf(key, schema), key, control, { hint: help, kind: "check" });
  return { element, value: () => control.checked };
}

/**
 * A choice between words; below it stands what the chosen one means.
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {Choice[]} choices
 * @param {How} how
 * @returns {Editor}
 */
function chosen(key, schema, value, choices, how) {
  const options = choices.map((each) => /** @type {form.Option} */ ([each.value, each.label]));
  const control = form.choice(value ?? schema.default, schema.nullable ? [["", "none"], ...options] : options);
  const meaning = h("span");
  const explain = () => {
    meaning.textContent = choices.find((each) => each.value === control.value)?.help ?? "";
  };
  control.addEventListener("change", explain);
  explain();
  const { help } = uiOf(schema);
  const hint = how.quiet ? null : h("span", help, help ? " " : "", meaning);
  return { element: labelled(key, schema, control, how, { hint }), value: () => control.value || null };
}

/**
 * A choice between the objects that the field may name.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {any[]} objects
 * @param {How} how
 * @returns {Editor}
 */
function reference(kit, key, schema, value, objects, how) {
  const names = objects.filter(kit.narrow[key] ?? (() => true)).map((object) => object.name);
  const optional = schema.nullable || !how.required;
  const control = form.choice(value, optional ? [["", "none"], ...names] : names);
  return { element: labelled(key, schema, control, how), value: () => control.value || (optional ? null : undefined) };
}

/**
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {How} how
 * @returns {Editor}
 */
function number(key, schema, value, how) {
  const control = form.number(value, {
    min: schema.minimum ?? schema.exclusiveMinimum,
    max: schema.maximum,
    step: schema.type === "integer" ? "1" : "any",
    placeholder: placeholderOf(schema),
  });
  return {
    element: labelled(key, schema, control, how),
    value: () => (control.value === "" ? missing(schema) : Number(control.value)),
  };
}

/**
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {How} how
 * @returns {Editor}
 */
function page(key, schema, value, how) {
  const zone = schema.contentMediaType === "text/dns";
  const control = h("textarea", {
    class: zone ? "document long" : "document",
    spellcheck: "false",
    wrap: "off",
    value: value ?? "",
  });
  return {
    element: labelled(key, schema, control, how, { kind: "wide" }),
    value: () => (control.value.trim() ? control.value : missing(schema)),
  };
}

/**
 * A line of text. Where text or a number is taken, digits are a number unless the value was that text before. A secret is
 * never shown: left empty, it is generated or stays.
 * @param {Kit} kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {How} how
 * @returns {Editor}
 */
function line(kit, key, schema, value, how) {
  const { secret, help } = uiOf(schema);
  const control = form.text(secret ? "" : value, {
    maxlength: schema.maxLength,
    placeholder: placeholderOf(schema),
    class: "mono",
  });
  const read = () => {
    const text = control.value.trim();
    if (text === "") return secret ? undefined : missing(schema);
    return schema.type === "scalar" && text !== value && /^\d{1,15}$/.test(text) ? Number(text) : text;
  };
  const empty = kit.fresh ? "Leave empty to generate one." : "Leave empty to keep it.";
  const more = secret ? { hint: `${help ?? ""} ${empty}` } : {};
  return { element: labelled(key, schema, control, how, more), value: read };
}

/**
 * A word or number, or several with spaces between; digits are a number unless they were that text before.
 * @param {string} key
 * @param {Schema} schema
 * @param {any} value
 * @param {How} how
 * @returns {Editor}
 */
function words(key, schema, value, how) {
  const before = [value ?? []].flat();
  const control = form.text(before.join(" "), { class: "mono" });
  const read = () => {
    const some = control.value.split(/[\s,]+/).filter(Boolean);
    const now = some.map((word) => (!before.includes(word) && /^\d{1,15}$/.test(word) ? Number(word) : word));
    return now.length === 1 ? now[0] : now;
  };
  return { element: labelled(key, schema, control, how), value: read };
}

/**
 * Values of a list in one control: texts one a line, numbers side by side.
 * @param {Kit} _kit
 * @param {string} key
 * @param {Schema} schema
 * @param {any[]} values
 * @param {Schema} item
 * @param {How} how
 * @returns {Editor}
 */
export function values(_kit, key, schema, values, item, how) {
  const numeric = item.type === "integer" || item.type === "number";
  const parts = numeric ? /[\s,]+/ : /[\n,]+/; // a text may be of several words
  const words = (/** @type {string} */ text) => text.split(parts).flatMap((word) => word.trim() || []);
  const control = numeric
    ? form.text(values.join(" "), { class: "mono", inputmode: "numeric" })
    : h("textarea", { class: "document", spellcheck: "false", rows: "3", value: values.join("\n") });
  const { help } = uiOf(schema);
  const hint = [help, numeric ? "Separate numbers by spaces." : "One per line."].filter(Boolean).join(" ");
  return {
    element: labelled(key, schema, control, how, { hint: how.quiet ? null : hint, kind: numeric ? "" : "wide" }),
    value: () => words(control.value).map((word) => (numeric && /^\d+$/.test(word) ? Number(word) : word)),
  };
}

/**
 * What an empty control says: null where that is a value, else nothing.
 * @param {Schema} schema
 */
function missing(schema) {
  return schema.nullable ? null : undefined;
}

/** @param {Schema} schema */
function placeholderOf(schema) {
  const example = schema.examples?.[0] ?? schema.default;
  return typeof example === "string" || typeof example === "number" ? String(example) : null;
}
