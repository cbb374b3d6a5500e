// @ts-check
// DNS tokens: what identifies clients over encrypted DNS. The node makes their texts; one is shown once.
import { at, call, get } from "../api/api.js";
import { h } from "../draw/dom.js";
import { ago, moment } from "../draw/format.js";
import { confirm, open } from "../draw/notices.js";
import { objectPage } from "../kinds/objectpage.js";
import { button, card, copyable, facts, filled } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { pathOf, take } from "../forms/saving.js";

/** @typedef {import("../forms/patch.js").Json} Json */

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  return objectPage(view, context, {
    kind: "dns_token",
    lead: "A query over encrypted DNS with a token identifies the client that refers to it. Only digests are kept.",
    nothing: "No DNS tokens yet",
    removal: "This is refused while a client refers to it. Queries with it are refused from then on.",
    cells: {
      used_at: (token) => time(token.used_at, "never"),
      previous_used_at: (token) => time(token.previous_used_at),
      previous_until: (token) => time(token.previous_until),
    },
    fresh: {
      omit: ["digest", "previous", "previous_until"],
      send: async (name) => (await call("POST", at("dns-tokens", name, "mint"), { body: {} })).data,
      made: (_body, data) => shownOnce(data),
    },
    beside: (token, signal) => {
      const place = h("div");
      filled(place, () => useOf(token["name"]), signal)();
      return card("Last use", place);
    },
    actions: (made, again) =>
      may("write", "dns_token", made.held?.data["name"]) ? [button("New text", () => rotate(made, again))] : [],
  });
}

/** @param {string} name */
async function useOf(name) {
  const use = await get(at("dns-tokens", name, "use"));
  return facts([
    ["Present text", time(use.used_at, "never")],
    ["Text before", time(use.previous_used_at, "never")],
  ]);
}

/**
 * @param {import("../forms/objectform.js").ObjectForm} made
 * @param {() => Promise<void>} again
 */
async function rotate(made, again) {
  if (!made.held) return;
  const { data, etag } = made.held;
  const also = { label: "The present text stays good for a week", checked: true };
  const text = "The new text is shown once. Without the week, queries with the present one are refused at once.";
  if (!(await confirm({ title: `A new text for ${data["name"]}?`, text, action: "New text", danger: true, also })))
    return;
  const body = also.checked ? {} : { overlap: 0 };
  const renewed = (await call("POST", at("dns-tokens", data["name"], "rotate"), { body, etag })).data;
  take(made, await call("GET", pathOf(made.about, data["name"])));
  await again();
  await shownOnce(renewed);
}

/**
 * @param {number | null | undefined} seconds
 * @param {string} [otherwise]
 */
function time(seconds, otherwise = "") {
  if (!seconds) return h("span.faint", otherwise);
  const future = seconds > Date.now() / 1000;
  const shown = future ? moment(seconds) : ago(seconds);
  return h("time", { datetime: new Date(seconds * 1000).toISOString(), title: moment(seconds) }, shown);
}

/**
 * Show a text as clients take it, the only time; resolves when it is closed.
 * @param {Json} made
 * @returns {Promise<void>}
 */
function shownOnce({ name, token }) {
  const close = h("button.button.main-action", { type: "button" }, "Done");
  const dialog = open(name, [
    h("p.soft", "This is the only time the token is shown."),
    copyable(token, "Copy the token"),
    h("div.buttons", close),
  ]);
  close.addEventListener("click", () => dialog.close());
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve());
  });
}
