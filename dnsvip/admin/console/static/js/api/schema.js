// @ts-check
// What kinds of objects there are and what fields they have, as the API's own description (OpenAPI) says it.
import { get } from "./api.js";

/** @typedef {{ value: string, label: string, help?: string }} Choice */

/**
 * How a field is shown: the description's x-ui.
 * @typedef {object} Ui
 * @property {string} [label]
 * @property {string} [help]
 * @property {string} [heading]
 * @property {number} [order]
 * @property {boolean} [listed]
 * @property {number} [column]
 * @property {boolean} [filtered]
 * @property {string} [unit]
 * @property {string} [refers]
 * @property {boolean} [runtime]
 * @property {boolean} [secret]
 * @property {Choice[]} [choices]
 */

/**
 * A JSON schema; in one that was resolved, references and "or null" are taken out of the way.
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {string | string[]} [type]
 * @property {Schema[]} [anyOf]
 * @property {Schema[]} [oneOf]
 * @property {Schema[]} [prefixItems]
 * @property {Schema | false} [items]
 * @property {Record<string, Schema>} [properties]
 * @property {Schema | boolean} [additionalProperties]
 * @property {Record<string, Schema>} [patternProperties]
 * @property {Schema} [propertyNames]
 * @property {string[]} [required]
 * @property {(string | number)[]} [enum]
 * @property {string | number} [const]
 * @property {unknown} [default]
 * @property {unknown[]} [examples]
 * @property {number} [minimum]
 * @property {number} [exclusiveMinimum]
 * @property {number} [maximum]
 * @property {number} [minLength]
 * @property {number} [maxLength]
 * @property {number} [maxProperties]
 * @property {string} [pattern]
 * @property {string} [title]
 * @property {string} [description]
 * @property {string} [contentMediaType]
 * @property {boolean} [nullable]
 * @property {Ui} [x-ui]
 */

/**
 * A kind of object; `path` is that of its collection.
 * @typedef {{ kind: string, path: string, label: string, label_plural: string, help: string, schemas: string[] }} Kind
 */

/** @typedef {{ name: string, in?: string, schema: Schema }} Parameter */

/** @typedef {any} Document  the whole description */

/** @type {Promise<Document> | undefined} */
let held;

/**
 * The description, read once.
 * @returns {Promise<Document>}
 */
export function description() {
  held ??= get("openapi.json").catch((error) => {
    held = undefined;
    throw error;
  });
  return /** @type {Promise<Document>} */ (held);
}

/**
 * One kind of object, such as "tier".
 * @param {Document} document
 * @param {string} name
 * @returns {Kind}
 */
export function kindOf(document, name) {
  const kind = document["x-kinds"].find((/** @type {Kind} */ each) => each.kind === name);
  if (!kind) throw new Error(`The server does not describe ${name}.`);
  return kind;
}

/**
 * A schema without references: {type, nullable, "x-ui", ...}. Several types that are all text are text; text or number
 * has the type "scalar"; one of these or a list of them "words".
 * @param {Document} document
 * @param {Schema} schema
 * @returns {Schema}
 */
export function resolved(document, schema) {
  const { $ref, anyOf, patternProperties, ...own } = schema;
  const [pattern] = Object.values(patternProperties ?? {});
  if (pattern) own.additionalProperties = pattern;
  if ($ref) return { ...resolved(document, named(document, $ref.split("/").at(-1) ?? "")), ...own };
  if (anyOf) return { ...united(document, anyOf), ...own };
  if (!Array.isArray(own.type)) return own;
  const types = own.type.filter((type) => type !== "null");
  return { ...own, type: types.length > 1 ? "scalar" : types[0], nullable: types.length < own.type.length };
}

/**
 * @param {Document} document
 * @param {Schema[]} anyOf
 * @returns {Schema}
 */
function united(document, anyOf) {
  const parts = anyOf.filter((part) => part.type !== "null").map((part) => resolved(document, part));
  const nullable = parts.length < anyOf.length;
  const [only] = parts;
  if (only && parts.length === 1) return { ...only, nullable: nullable || Boolean(only.nullable) };
  if (parts.some((part) => part.type === "array")) return { type: "words", nullable };
  return { type: parts.every((part) => part.type === "string") ? "string" : "scalar", nullable };
}

/**
 * A schema of the description by name.
 * @param {Document} document
 * @param {string} name
 * @returns {Schema}
 */
export function named(document, name) {
  return document.components.schemas[name];
}

/**
 * The fields of an object in their order, each resolved.
 * @param {Document} document
 * @param {Schema} schema
 * @returns {[string, Schema][]}
 */
export function fieldsOf(document, schema) {
  const entries = Object.entries(schema.properties ?? {}).map(
    ([key, field]) => /** @type {[string, Schema]} */ ([key, resolved(document, field)]),
  );
  return entries.sort(([, a], [, b]) => (uiOf(a).order ?? 0) - (uiOf(b).order ?? 0));
}

/**
 * @param {Schema} schema
 * @returns {Ui}
 */
export function uiOf(schema) {
  return schema["x-ui"] ?? {};
}

/**
 * What a field is called.
 * @param {string} key
 * @param {Schema} schema
 */
export function labelOf(key, schema) {
  const words = key.replaceAll("_", " ");
  return uiOf(schema).label ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * The words that a field takes, null where it takes others too.
 * @param {Schema} schema
 * @returns {Choice[] | null}
 */
export function choicesOf(schema) {
  const { choices } = uiOf(schema);
  if (choices?.length) return choices;
  const words = schema.enum ?? (schema.const === undefined ? null : [schema.const]);
  return words ? words.map((word) => ({ value: String(word), label: String(word) })) : null;
}

/**
 * The ways to write an object of which only one key is given, such as a match: [key, schema of its value].
 * @param {Document} document
 * @param {Schema} schema
 * @returns {[string, Schema][] | null}
 */
export function waysOf(document, schema) {
  if (schema.oneOf) return schema.oneOf.flatMap((part) => fieldsOf(document, resolved(document, part)));
  return schema.maxProperties === 1 ? fieldsOf(document, schema) : null;
}

/**
 * The kinds that fields of a schema refer to, those of nested objects included.
 * @param {Document} document
 * @param {Schema} schema
 * @returns {Set<string>}
 */
export function referred(document, schema) {
  const whole = resolved(document, schema);
  const { refers } = uiOf(whole);
  const inner = [
    ...Object.values(whole.properties ?? {}),
    ...(whole.oneOf ?? []),
    ...(whole.prefixItems ?? []),
    ...[whole.items, whole.additionalProperties, whole.propertyNames].filter((part) => typeof part === "object"),
  ];
  const found = inner.flatMap((part) => [...referred(document, /** @type {Schema} */ (part))]);
  return new Set(refers ? [refers, ...found] : found);
}

/**
 * The list of a kind: the fields of what is listed, and the query that it takes.
 * @param {Document} document
 * @param {Kind} kind
 * @returns {{ fields: [string, Schema][], query: Parameter[] }}
 */
export function listOf(document, kind) {
  const { parameters, responses } = document.paths[kind.path].get;
  const { items } = responses["200"].content["application/json"].schema.properties.items;
  const parts = /** @type {Schema[]} */ (items.anyOf ?? [items])
    .map((part) => resolved(document, part))
    .filter((part) => !part.properties?.["unreadable"]); // what stands in a list for one that cannot be read
  const fields = new Map(parts.flatMap((part) => fieldsOf(document, part)));
  return { fields: [...fields], query: parameters };
}
