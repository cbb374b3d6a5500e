// @ts-check
// Audit: who changed what, newest first. What was changed at once is one row; an import opens to its own.
import { all, query as asQuery, get } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { count, whole } from "../draw/format.js";
import { WORDS, changes, from } from "../kinds/history.js";
import { paged } from "../lists/lists.js";
import { listen, live } from "../api/live.js";
import { button, card, empty, filled, head, label, tag } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { link, note } from "../frame/router.js";
import { day, keepFresh, parsed, when, zoneSwitch } from "../draw/times.js";

/** @typedef {import("../api/api.js").Schemas["AuditChange"]} Change */
/** @typedef {import("../api/api.js").Schemas["AuditPart"]} Part */
/** @typedef {import("../kinds/history.js").Row} Row */
/** @typedef {Record<string, string>} Wanted */

const KINDS = [
  "client",
  "enrolment",
  "tier",
  "pool",
  "cluster",
  "zone",
  "service",
  "dns_group",
  "tsig",
  "dns_token",
  "classify",
  "key",
  "token",
  "cookies",
];
/** @type {Record<string, string>} */
const COLOURS = { "+": "good", "~": "info", "-": "bad" };
/** @type {Record<string, string>} */
const PAGE = { client: "clients", zone: "zones", dns_group: "dnsgroups", tsig: "tsig", dns_token: "dnstokens" };
/** Of kinds whose plural is not the word with an s. @type {Record<string, string>} */
const MANY = { classify: "classify", cookies: "cookies", tsig: "TSIG keys" };
/** @type {form.Option[]} */
const TIMES = [
  ["", "Any time"],
  ["3600", "Last hour"],
  ["86400", "Last 24 hours"],
  ["604800", "Last 7 days"],
  ["2592000", "Last 30 days"],
  ["custom", "From … until"],
];
const WAIT_MS = 250;
let turn = 0;
const OPENED = "25";

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  /** @type {Wanted} */
  const wanted = { kind: "", name: "", actor: "", source: "", action: "", time: "", from: "", until: "", ...query };
  const place = h("div");
  const news = h("div", { role: "status" });
  const draw = (/** @type {Change[]} */ items) =>
    items.length
      ? days(items, wanted, signal)
      : empty("Nothing matches", "Fewer filters, or a longer time, show more.");
  const pages = paged(place, "audit/changes", draw, signal);
  let generation = live().now?.generation;
  const search = async () => {
    note("audit", wanted);
    fill(news);
    generation = live().now?.generation;
    await pages.show(asQuery({ limit: "50", ...asked(wanted) }));
  };
  const bar = await filterBar(wanted, search);
  const lead = "Every change with its old and new values. Secrets are left out.";
  fill(view, head("Audit", { lead, actions: [zoneSwitch(search)] }), card("", [bar, news, place], { flush: true }));
  keepFresh(signal);
  listen(({ now }) => {
    generation ??= now?.generation;
    if (now?.generation && now.generation !== generation && !news.hasChildNodes())
      fill(news, h("div.news", button("There are newer changes: show them", search, { small: true })));
  }, signal);
  await search();
}

/**
 * What the API is asked for.
 * @param {Wanted} wanted
 */
function asked({ kind, name, actor, source, action, time, from: begin = "", until: end = "" }) {
  const within = time === "custom" ? {} : { since: time ? Math.floor(Date.now() / 1000 - Number(time)) : "" };
  const custom = time === "custom" ? { since: parsed(begin), until: parsed(end) } : {};
  return { kind, name, actor, source, action, ...within, ...custom };
}

/**
 * @param {Wanted} wanted  changed here
 * @param {() => unknown} search
 */
async function filterBar(wanted, search) {
  let timer = 0;
  const set = (/** @type {string} */ key) => (/** @type {Event} */ event) => {
    const control = /** @type {form.Control} */ (event.currentTarget);
    wanted[key] = control.value.trim();
    clearTimeout(timer);
    timer = setTimeout(search, control instanceof HTMLSelectElement ? 0 : WAIT_MS);
  };
  const text = (/** @type {string} */ key, /** @type {string} */ says, more = {}) =>
    form.text(wanted[key], {
      type: "search",
      placeholder: says.split(/[ ,]/)[0],
      "aria-label": says,
      oninput: set(key),
      ...more,
    });
  const moment = (/** @type {string} */ key, /** @type {string} */ says) =>
    h("label.moment", h("span.faint", says), form.text(wanted[key], { type: "datetime-local", oninput: set(key) }));
  const span = h("div.span", moment("from", "From"), moment("until", "Until"));
  const show = () => {
    span.hidden = wanted["time"] !== "custom";
  };
  const time = form.choice(wanted["time"], TIMES, {
    "aria-label": "Time",
    onchange: (event) => {
      set("time")(event);
      show();
    },
  });
  show();
  /** @type {form.Option[]} */
  const actions = [["", "Any action"], ...Object.entries(WORDS)];
  return h(
    "div",
    h(
      "div.filters",
      { role: "search", "aria-label": "Audit" },
      time,
      text("actor", "Actor, such as token first", { list: "actors" }),
      form.choice(wanted["kind"], [["", "Any kind"], ...KINDS], { "aria-label": "Kind", onchange: set("kind") }),
      text("name", "Name of the object"),
      form.choice(wanted["action"], actions, { "aria-label": "Action", onchange: set("action") }),
      text("source", "Source address"),
      h("datalist", { id: "actors" }, await actorsKnown()),
    ),
    span,
  );
}

/** Who may have changed something: the tokens, as far as they may be seen. */
async function actorsKnown() {
  if (!may("read", "token")) return [];
  const tokens = await all("tokens?limit=1000").catch(() => []);
  return tokens.map(({ name }) => h("option", { value: `token ${name}` }));
}

/**
 * Changes under the days that they were made on.
 * @param {Change[]} items
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 */
function days(items, wanted, signal) {
  turn += 1; // what was opened before belongs to an earlier search
  /** @type {Map<string, Change[]>} */
  const byDay = new Map();
  for (const item of items) byDay.set(day(item.at), [...(byDay.get(day(item.at)) ?? []), item]);
  return [...byDay].map(([name, some]) =>
    h(
      "section",
      { dataset: { key: name } },
      h("h2.day", name),
      h(
        "ol.history.audit",
        some.map((item) =>
          h("li", { dataset: { key: `${item.id} ${turn}` } }, item.row ? single(item.row) : many(item, wanted, signal)),
        ),
      ),
    ),
  );
}

/** @param {{ at: number, actor: string, source?: string | null, generation: number }} item */
function who(item) {
  return [
    h("span.soft", `by ${item.actor}`, from(/** @type {Row} */ (item))),
    h("span.faint.push", when(item.at), " · ", label(`generation ${item.generation}`)),
  ];
}

/** @param {Row} row */
function single(row) {
  return [h("div.row", sign(row.action), h("span.faint", row.kind), named(row), who(row)), changes(row)];
}

/** @param {string} action */
function sign(action, text = WORDS[action] ?? action) {
  return tag(text, COLOURS[action] ?? "");
}

/** @param {{ kind: string, name: string }} row */
function named({ kind, name }) {
  const page = PAGE[kind];
  return h("strong", page ? h("a", { href: link([page, name]) }, name) : name);
}

/**
 * What was changed at once, such as by an import: one row, which opens to all of them.
 * @param {Change} item
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 */
function many(item, wanted, signal) {
  const inside = h("div.change-rows");
  const parts = (item.parts ?? []).map((part) =>
    h("span.part", sign(part.action, wordsOf(part)), h("span.faint", namesOf(part))),
  );
  const more = item.counted ? null : h("span.faint", "and more");
  const details = h("details.at-once", h("summary", h("div.row", parts, more, who(item))), inside);
  details.addEventListener("toggle", () => {
    if (details.open && !inside.hasChildNodes()) filled(inside, () => rowsOf(item, wanted, signal), signal)();
  });
  return details;
}

/** @param {Part} part */
function wordsOf({ kind, action, rows = 0 }) {
  const word = MANY[kind] ?? kind.replace("_", " ");
  return `${MANY[kind] ? `${whole(rows)} ${word}` : count(rows, word)} ${WORDS[action] ?? action}`;
}

/** @param {Part} part */
function namesOf({ names = [], rows = 0 }) {
  const shown = names.filter(Boolean);
  if (!shown.length) return "";
  return rows > shown.length ? `${shown.join(", ")} …` : shown.join(", ");
}

/**
 * The rows of a change, page by page.
 * @param {Change} item
 * @param {Wanted} wanted
 * @param {AbortSignal} signal
 */
async function rowsOf(item, { kind = "", name = "", action = "" }, signal) {
  const list = h("ol.history", { dataset: { key: "rows" } });
  const foot = h("div.row", { dataset: { key: "foot" } });
  const add = async (/** @type {string} */ path) => {
    const { items, next } = await get(path, { signal });
    list.append(
      .../** @type {Row[]} */ (items).map((row) =>
        h("li", h("div.row", sign(row.action), h("span.faint", row.kind), named(row)), changes(row)),
      ),
    );
    fill(foot, next ? button("Show more", () => add(next), { small: true }) : null);
  };
  await add(`audit${asQuery({ generation: item.generation, limit: OPENED, kind, name, action })}`);
  return [list, foot];
}
