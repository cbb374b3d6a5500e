// @ts-check
// The list of the objects of a kind, made from the API's description: columns from the fields that are listed, filters
// and order from the query that the API's list takes.
import { query as asQuery, get } from "../api/api.js";
import { cell } from "./cells.js";
import { fill, h } from "../draw/dom.js";
import { choice, text } from "../forms/form.js";
import { paged } from "./lists.js";
import { icon } from "../draw/icons.js";
import { button, empty, titleIn } from "../draw/parts.js";
import { may, seen } from "../api/rights.js";
import { link, note } from "../frame/router.js";
import { removeObject } from "../forms/saving.js";
import { choicesOf, description, kindOf, labelOf, listOf, resolved, uiOf } from "../api/schema.js";
import { table } from "./table.js";

/** @typedef {import("../draw/dom.js").Child} Child */
/** @typedef {import("../api/schema.js").Parameter} Parameter */

const WAIT_MS = 250;
const LENGTH = matchMedia("(max-width: 620px)").matches ? "25" : "50";
const GENERAL = new Set(["limit", "after", "sort", "q", "contains", "count"]);

/**
 * What is special about the list of a kind.
 * @typedef {object} Options
 * @property {string} page  the page's name in the address
 * @property {Record<string, string>} query  of the address
 * @property {AbortSignal} signal
 * @property {string} nothing  where there is none
 * @property {boolean} [opens]  rows lead to a page of their own
 * @property {boolean} [filters]
 * @property {Record<string, ((object: any) => Child) | null>} [cells]  by field, where they are drawn in another way; null: not at all
 * @property {import("./table.js").Column<any>[]} [more]  columns after those of the fields
 */

/**
 * Show the list in `place`; returns a function to read it anew.
 * @param {HTMLElement} place
 * @param {string} kind
 * @param {Options} options
 */
export async function kindList(place, kind, options) {
  const document = await description();
  const about = kindOf(document, kind);
  const { fields, query } = listOf(document, about);
  const sorts = sortsOf(query);
  /** @type {Record<string, string>} */
  const wanted = { sort: "name", limit: options.filters ? LENGTH : "1000", ...options.query };
  const body = h("div");
  const find = () => {
    const asked = { ...wanted, sort: wanted["sort"] === "name" ? "" : wanted["sort"] };
    return pages.show(asQuery(asked));
  };
  const bar = options.filters
    ? await filterBar(document, about.label_plural, fields, query, sorts, wanted, options, find)
    : null;
  const sorting = () =>
    bar ? { by: () => wanted["sort"] ?? "", turn: (/** @type {string} */ by) => bar.sortBy(by) } : undefined;
  const columns = columnsOf(document, fields, sorts, { ...options, kind, again: () => pages.again() });
  const draw = (/** @type {any[]} */ items) => {
    if (!items.length) return nothing(kind, about.label_plural, wanted, options);
    const to = options.opens ? (/** @type {any} */ object) => [options.page, object.name] : undefined;
    return table(`All ${about.label_plural}`, columns, items, { to, sorting: sorting() });
  };
  fill(place, bar?.element, narrowed(kind, about.label_plural), body);
  const pages = paged(body, about.path, draw, options.signal);
  await find();
  return pages.again;
}

/**
 * What stands in the place of an empty list: none of those that may be seen is not none.
 * @param {string} kind
 * @param {string} title
 * @param {Record<string, string>} wanted
 * @param {Options} options
 */
function nothing(kind, title, wanted, options) {
  if (filtered(wanted)) return empty("Nothing matches");
  return empty(seen(kind) ? `No ${titleIn(title)} that this token may see` : options.nothing);
}

/**
 * The words on a list that shows only some, because the token may see no others.
 * @param {string} kind
 * @param {string} title
 */
function narrowed(kind, title) {
  const patterns = seen(kind);
  if (!patterns) return null;
  const names = patterns.flatMap((pattern, place) => [place ? ", " : "", h("code", pattern)]);
  const within = kind === "service" ? "in the zones " : "";
  return h(
    "p.hidden-note",
    { dataset: { hidden: "" } },
    icon("lock", 15),
    h("span", `This token may see ${titleIn(title)} ${within}`, names, " only; all others are hidden."),
  );
}

/** @param {Record<string, string>} wanted */
function filtered(wanted) {
  return Object.entries(wanted).some(([key, value]) => value && key !== "sort" && key !== "limit");
}

/**
 * @param {import("../api/schema.js").Document} document
 * @param {[string, import("../api/schema.js").Schema][]} fields
 * @param {string[]} sorts
 * @param {Options & { kind: string, again: () => unknown }} options
 * @returns {import("./table.js").Column<any>[]}
 */
function columnsOf(document, fields, sorts, { page, opens, cells = {}, more = [], kind, again }) {
  const listed = fields
    .filter(([key]) => cells[key] !== null)
    .filter(([key, field]) => key === "name" || (uiOf(field).listed ?? !("x-ui" in field)))
    .sort(([a, x], [b, y]) => place(a, x) - place(b, y));
  const columns = listed.map(([key, field]) => {
    const title = uiOf(field).heading ?? labelOf(key, field);
    const number = field.type === "integer" || field.type === "number";
    const sort = sorts.includes(key) ? key : undefined;
    const draw = cells[key] ?? ((/** @type {any} */ object) => cell(document, field, object[key]));
    if (key !== "name") return readable({ title, number, sort, extra: field.properties !== undefined, cell: draw });
    const named = (/** @type {any} */ object) => {
      if (object.unreadable) return broken(kind, object, again);
      return opens ? h("a.lead", { href: link([page, object.name]) }, object.name) : h("strong", object.name);
    };
    return { title, sort, cell: named };
  });
  return [...columns, ...more.map(readable)];
}

/**
 * The name of an object that cannot be read, why, and what can be done here: it has no page of its own.
 * @param {string} kind
 * @param {{ name: string, unreadable: string }} object
 * @param {() => unknown} again
 * @returns {Child}
 */
function broken(kind, object, again) {
  const text = "What is stored of it cannot be read, so that it cannot be restored.";
  const remove = () => removeObject(kind, { data: object, etag: null }, { text, after: again, lasting: true });
  return [
    h("strong", object.name),
    h("div", h("span.tag.bad", "cannot be read"), ` ${object.unreadable}`),
    may("delete", kind, object.name)
      ? button("Remove", remove, { kind: "danger", small: true, label: `Remove ${object.name}` })
      : null,
  ];
}

/**
 * A column that is empty for an object that cannot be read.
 * @param {import("./table.js").Column<any>} column
 * @returns {import("./table.js").Column<any>}
 */
export function readable(column) {
  return { ...column, cell: (object) => (object.unreadable ? null : column.cell(object)) };
}

/**
 * @param {string} key
 * @param {import("../api/schema.js").Schema} field
 */
function place(key, field) {
  const { column, order } = uiOf(field);
  return key === "name" ? 0 : (column ?? order ?? 1);
}

/** @param {Parameter[]} query */
function sortsOf(query) {
  const pattern = query.find(({ name }) => name === "sort")?.schema.pattern ?? "";
  return /\(([^)]*)\)/.exec(pattern)?.[1]?.split("|") ?? [];
}

/**
 * The controls above a list.
 * @param {import("../api/schema.js").Document} document
 * @param {string} title
 * @param {[string, import("../api/schema.js").Schema][]} fields
 * @param {Parameter[]} query
 * @param {string[]} sorts
 * @param {Record<string, string>} wanted  what is searched for; changed here
 * @param {Options} options
 * @param {() => unknown} find
 */
async function filterBar(document, title, fields, query, sorts, wanted, options, find) {
  const names = new Map(fields);
  const own = query.filter(({ name }) => !GENERAL.has(name) && names.has(name));
  const search = text(wanted["q"], {
    type: "search",
    placeholder: "Name begins with …",
    "aria-label": "Name begins with",
  });
  const controls = await Promise.all(
    own.map(async ({ name, schema }) => {
      const field = /** @type {import("../api/schema.js").Schema} */ (names.get(name));
      return /** @type {[string, import("../forms/form.js").Control]} */ ([
        name,
        await filter(document, labelOf(name, field), field, resolved(document, schema), wanted[name]),
      ]);
    }),
  );
  const sort = choice(wanted["sort"], ordersOf(sorts, names), { "aria-label": "Order" });
  const lengths = ["25", "50", "100"].map((each) => /** @type {[string, string]} */ ([each, `${each} per page`]));
  const limit = choice(wanted["limit"], lengths, { "aria-label": "Page length" });
  const all = /** @type {[string, import("../forms/form.js").Control][]} */ ([
    ["q", search],
    ...controls.sort(([, a], [, b]) => Number(b.type === "search") - Number(a.type === "search")),
    ["sort", sort],
    ["limit", limit],
  ]);
  const run = () => {
    for (const [key, control] of all) wanted[key] = control.value.trim();
    const usual = /** @type {Record<string, string>} */ ({ sort: "name", limit: LENGTH });
    note(options.page, Object.fromEntries(Object.entries(wanted).filter(([key, value]) => value !== usual[key])));
    return find();
  };
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(run, WAIT_MS);
  };
  for (const [, control] of all)
    control.addEventListener(control instanceof HTMLSelectElement ? "change" : "input", () =>
      control instanceof HTMLSelectElement ? run() : later(),
    );
  const sortBy = (/** @type {string} */ by) => {
    sort.value = by;
    if (sort.value !== by) sort.append(h("option", { value: by, selected: true }, orderName(by, names)));
    return run();
  };
  const element = h(
    "div.filters",
    { role: "search", "aria-label": title },
    all.map(([, control]) => control),
  );
  return { element, sortBy };
}

/**
 * @param {import("../api/schema.js").Document} document
 * @param {string} label
 * @param {import("../api/schema.js").Schema} field
 * @param {import("../api/schema.js").Schema} asked  the query's own schema
 * @param {string | undefined} value
 */
async function filter(document, label, field, asked, value) {
  const { refers } = uiOf(field);
  const choices = choicesOf(asked) ?? choicesOf(field);
  const any = /** @type {[string, string]} */ (["", `Any ${label.toLowerCase()}`]);
  if (choices) return choice(value, [any, ...choices.map((each) => each.value)], { "aria-label": label });
  if (refers && may("read", refers)) {
    const { items } = await get(`${kindOf(document, refers).path}?limit=1000`);
    const names = items.map((/** @type {any} */ object) => object.name);
    return choice(value, [any, ...names], { "aria-label": label });
  }
  return text(value, { type: "search", placeholder: label, "aria-label": label });
}

/**
 * @param {string[]} sorts
 * @param {Map<string, import("../api/schema.js").Schema>} names
 * @returns {[string, string][]}
 */
function ordersOf(sorts, names) {
  return sorts.map((key) => (key === "changed" ? ["-changed", "Latest change first"] : [key, orderName(key, names)]));
}

/**
 * @param {string} by
 * @param {Map<string, import("../api/schema.js").Schema>} names
 */
function orderName(by, names) {
  const key = by.replace("-", "");
  const field = names.get(key);
  const label = field ? labelOf(key, field).toLowerCase() : key;
  return `By ${label}${by.startsWith("-") ? ", descending" : ""}`;
}
