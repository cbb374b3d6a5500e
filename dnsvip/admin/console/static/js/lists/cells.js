// @ts-check
// How values read in lists: by their schema, so that a new field is shown without another line of code.
import { h } from "../draw/dom.js";
import { count, whole } from "../draw/format.js";
import { label, tag } from "../draw/parts.js";
import { choicesOf, fieldsOf, labelOf, resolved, uiOf, waysOf } from "../api/schema.js";

/** @typedef {import("../api/schema.js").Schema} Schema */
/** @typedef {import("../api/schema.js").Document} Document */

const MOST = 3;

/**
 * What a table's cell shows of a value.
 * @param {Document} document
 * @param {Schema} schema
 * @param {any} value
 * @returns {import("../draw/dom.js").Child}
 */
export function cell(document, schema, value) {
  if (value === null || value === undefined || value === "") return h("span.faint", "none");
  if (typeof value === "boolean") return value ? label("yes") : h("span.faint", "no");
  if (Array.isArray(value)) return items(document, schema, value);
  if (typeof value === "object") return h("span.soft", summary(document, schema, value) || "none");
  const { refers, unit } = uiOf(schema);
  if (choicesOf(schema)) return tag(String(value));
  if (refers) return label(String(value));
  if (typeof value === "number") return unit ? `${whole(value)} ${unit}` : String(value);
  return h("span.mono", String(value));
}

/**
 * @param {Document} document
 * @param {Schema} schema
 * @param {any[]} values
 */
function items(document, schema, values) {
  if (!values.length) return h("span.faint", "none");
  const inner = resolved(document, schema.items || {});
  const ways = schema.items ? waysOf(document, inner) : null;
  const shown = values.slice(0, MOST).map((value) => {
    const [[step, text] = ["", ""]] = ways ? Object.entries(value) : [];
    if (ways) return h("span.known", h("span.faint", step), " ", h("span.mono", String(text)));
    return h("span.soft", Array.isArray(value) ? value.join(" ") : words(document, inner, value));
  });
  const more = values.length - shown.length;
  return h("div.knowns", shown, more > 0 ? h("span.faint", `and ${more} more`) : null);
}

/**
 * An object in a few words: what of it is not as it is by default.
 * @param {Document} document
 * @param {Schema} schema
 * @param {Record<string, any>} value
 */
export function summary(document, schema, value) {
  if (!schema.properties) {
    const inner = resolved(
      document,
      typeof schema.additionalProperties === "object" ? schema.additionalProperties : {},
    );
    return Object.entries(value)
      .map(([key, each]) => `${key}: ${words(document, inner, each)}`)
      .join(", ");
  }
  const told = fieldsOf(document, schema).filter(
    ([key, field]) =>
      value[key] !== null && value[key] !== undefined && JSON.stringify(value[key]) !== JSON.stringify(field.default),
  );
  return told
    .map(([key, field]) => {
      const name = labelOf(key, field);
      return value[key] === true ? name.toLowerCase() : `${lower(name)} ${words(document, field, value[key])}`;
    })
    .join(", ");
}

/**
 * @param {Document} document
 * @param {Schema} schema
 * @param {any} value
 * @returns {string}
 */
function words(document, schema, value) {
  if (value === true) return "yes";
  if (value === false) return "no";
  if (Array.isArray(value)) return value.length > MOST ? count(value.length, "entry", "entries") : value.join(", ");
  if (value !== null && typeof value === "object") return summary(document, schema, value);
  const { unit } = uiOf(schema);
  const chosen = choicesOf(schema)?.find((each) => each.value === value);
  const shown = unit && !labelOf("", schema).toLowerCase().includes(unit) ? ` ${unit}` : "";
  return `${chosen?.label.toLowerCase() ?? value}${shown}`;
}

/**
 * A label within a sentence; what is written in capitals stays so.
 * @param {string} text
 */
function lower(text) {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
