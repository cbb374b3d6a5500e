// @ts-check
// Search: everything that a text is in or an address leads to, by kind.
import { fill, h } from "../draw/dom.js";
import { grouped, inWords, meant, placeOf, search } from "../frame/found.js";
import { icon } from "../draw/icons.js";
import { keys } from "../lists/lists.js";
import { card, empty, filled, head } from "../draw/parts.js";
import { note } from "../frame/router.js";
import { table } from "../lists/table.js";

const EACH = 100;

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  const text = (query["q"] ?? "").trim();
  const place = h("div.stack");
  fill(
    view,
    head("Search", { lead: text ? `What has “${text}” in it, or is meant by it.` : "Press / and type." }),
    place,
  );
  if (!text) return;
  const load = async () => {
    const found = await search(text, EACH, signal);
    const one = query["go"] ? meant(found, text) : undefined;
    if (one) {
      location.replace(placeOf(one)); // going back leads to where one was
      return null;
    }
    note("search", { q: text });
    return [warning(found), grouped(found).map((each) => kindCard(each, found.more)), nothing(found)];
  };
  keys(place, h("button"), h("button"), signal);
  await filled(place, load, signal)();
}

/**
 * @param {ReturnType<typeof grouped>[number]} group
 * @param {string[]} more
 */
function kindCard({ kind, title, items }, more) {
  const named = (/** @type {import("../frame/found.js").Match} */ item) =>
    h("a.lead", { href: placeOf(item) }, item.name);
  const columns = [
    { title: "Name", cell: named },
    ...(items.some(({ of }) => of)
      ? [{ title: kind === "server" ? "Pool" : "Zone", cell: (/** @type {any} */ item) => item.of }]
      : []),
    ...(items.some(({ detail }) => detail)
      ? [{ title: "About", cell: (/** @type {any} */ item) => h("span.soft", item.detail ?? "") }]
      : []),
  ];
  const key = (/** @type {any} */ item) => `${item.kind} ${item.of ?? ""} ${item.name} ${item.detail ?? ""}`;
  const full = more.includes(kind) ? h("p.note.soft", `The first ${items.length}; a longer text finds fewer.`) : null;
  return card(title, [table(`${title} found`, columns, items, { key }), full], { flush: true });
}

/** @param {import("../frame/found.js").Found} found */
function warning(found) {
  if (!found.incomplete.length) return null;
  const text = `The search ended before it had looked at everything: ${inWords(found.incomplete)}. A longer text takes less.`;
  return h("p.hidden-note", icon("warn", 15), h("span", text));
}

/** @param {import("../frame/found.js").Found} found */
function nothing(found) {
  return found.items.length ? null : empty("Nothing found", "Nothing that this token may see has this text in it.");
}
