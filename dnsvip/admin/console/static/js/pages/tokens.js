// @ts-check
// Tokens of the API. A token is shown once, when it is created.
import { all, at, call } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { ago, moment } from "../draw/format.js";
import { readable } from "../lists/kindlist.js";
import { confirm, done, open } from "../draw/notices.js";
import { button, card, copyable, empty, filled, head, label } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { choicesOf, description, fieldsOf, labelOf, named, resolved } from "../api/schema.js";
import { table } from "../lists/table.js";

/** @typedef {() => Promise<void>} Again */
/** @typedef {import("../api/api.js").Schemas["Shown"]} Token */

/** What stands for a scope of one's own in the choice of roles. */
const SCOPE = "scope";

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { signal, session }) {
  const place = h("div");
  /** @type {Again} */
  const run = filled(
    place,
    async () => {
      const items = await all("tokens", { signal });
      return items.length
        ? table(
            "Tokens",
            columns(session, () => run()),
            items,
          )
        : empty("No tokens");
    },
    signal,
  );
  fill(
    view,
    head("Tokens", {
      lead: "A token grants what its scopes allow. Removing it ends its sessions with the next request.",
      actions: may("write", "token") ? [button("New token", () => make(() => run()), { kind: "main-action" })] : [],
    }),
    card("", place, { flush: true }),
  );
  await run();
}

/**
 * @param {import("../frame/signin.js").Session} session
 * @param {Again} again
 * @returns {import("../lists/table.js").Column<Token>[]}
 */
function columns(session, again) {
  return [
    {
      title: "Token",
      cell: (token) => [
        h("strong", token.name),
        session.actor === `token ${token.name}` ? [" ", label("this session", "info")] : null,
        token.unreadable ? h("div", h("span.tag.bad", "cannot be read"), ` ${token.unreadable}`) : null,
      ],
    },
    ...[
      { title: "Permissions", cell: scopes },
      { title: "Created", cell: (/** @type {Token} */ token) => time(token.created_at) },
      { title: "By", cell: (/** @type {Token} */ token) => h("span.soft", token.created_by) },
      { title: "Last used", cell: (/** @type {Token} */ token) => time(token.last_used_at) },
      {
        title: "Expires",
        cell: (/** @type {Token} */ token) => (token.expires_at ? time(token.expires_at) : h("span.faint", "never")),
      },
    ].map(readable),
    {
      title: "",
      cell: (token) =>
        h(
          "div.row.nowrap",
          !token.unreadable &&
            may("write", "token") &&
            button("", () => renew(token, again), {
              name: "rotate",
              small: true,
              kind: "quiet",
              label: `Renew ${token.name}`,
            }),
          may("delete", "token") &&
            button("", () => remove(token, again), {
              name: "trash",
              small: true,
              kind: "quiet danger",
              label: `Remove ${token.name}`,
            }),
        ),
    },
  ];
}

/** @param {Token} token */
function scopes(token) {
  if (token.role) return label(token.role);
  if (token.rights?.length === 1 && token.rights[0] === "read,write,delete,rotate:*") return label("everything");
  if (token.rights?.length) return h("span.soft", token.rights.join("; "));
  const texts = (token.scopes ?? []).map((/** @type {any} */ scope) =>
    typeof scope === "string" ? scope : `${scope.actions.join(", ")}: ${scope.kinds.join(", ")}`,
  );
  return texts.length ? h("span.soft", texts.join("; ")) : label("everything");
}

/** @param {number | null | undefined} seconds */
function time(seconds) {
  if (!seconds) return h("span.faint", "");
  const future = seconds > Date.now() / 1000;
  return h(
    "time",
    { datetime: new Date(seconds * 1000).toISOString(), title: moment(seconds) },
    future ? moment(seconds) : ago(seconds),
  );
}

/**
 * @param {Token} token
 * @param {Again} again
 */
async function remove(token, again) {
  if (
    !(await confirm({
      title: `Remove ${token.name}?`,
      text: "Its requests are refused from now on, and its console sessions end.",
      action: "Remove",
      danger: true,
    }))
  )
    return;
  await call("DELETE", at("tokens", token.name));
  done(`${token.name} removed`);
  await again();
}

/**
 * @param {Token} token
 * @param {Again} again
 */
async function renew(token, again) {
  if (
    !(await confirm({
      title: `Renew ${token.name}?`,
      text: "It gets a new secret, shown once; the old one is refused from the next request on. Its permissions stay.",
      action: "Renew",
      danger: true,
    }))
  )
    return;
  const { data } = await call("POST", `${at("tokens", token.name)}/rotate`);
  const close = h("button.button.main-action", { type: "button" }, "Done");
  const dialog = open(token.name, secret(data.token, close));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", again);
}

/**
 * A token, the only time it is shown.
 * @param {string} token
 * @param {HTMLElement} close
 */
function secret(token, close) {
  return [
    h("p.soft", "This is the only time the token is shown."),
    copyable(token, "Copy the token"),
    h("div.buttons", close),
  ];
}

/**
 * One scope: lists of words, which the description names; what is left empty is not narrowed.
 * @param {import("../api/schema.js").Document} document
 */
function scopeForm(document) {
  const inputs = fieldsOf(document, named(document, "Scope")).map(([key, schema]) => {
    const [example] = (typeof schema.items === "object" && schema.items.examples) || [];
    const input = form.text("", { class: "mono", placeholder: String(example ?? WORDS[key] ?? "") });
    return { key, input, field: form.field(labelOf(key, schema), key, input, { hint: schema.description }) };
  });
  const group = form.group(
    "Scope",
    "scopes",
    h("div", { dataset: { path: "0" } }, ...inputs.map(({ field }) => field)),
    { hint: "Lists with commas; * matches anything. An empty pattern is not narrowed." },
  );
  const value = () =>
    Object.fromEntries(
      inputs.filter(({ input }) => words(input.value).length).map(({ key, input }) => [key, words(input.value)]),
    );
  return { group, value };
}

/** @type {Record<string, string>} */
const WORDS = { actions: "read, write" };

/** @param {string} text */
function words(text) {
  return text.split(/[\s,]+/).filter(Boolean);
}

/** @param {Again} again */
async function make(again) {
  const document = await description();
  const wanted = document.paths["/api/v1/tokens"].post.requestBody.content["application/json"].schema;
  const [, given] = fieldsOf(document, resolved(document, wanted)).find(([key]) => key === "role") ?? [];
  const roles = choicesOf(given ?? {});
  const scope = scopeForm(document);
  const name = form.text("", { placeholder: "robot" });
  const role = form.choice("", [
    ["", "all your permissions"],
    ...(roles ?? []).map(({ value }) => value),
    [SCOPE, "a scope of its own"],
  ]);
  scope.group.hidden = true;
  role.addEventListener("change", () => {
    scope.group.hidden = role.value !== SCOPE;
  });
  const expires = form.choice("", [
    ["", "never"],
    [86400, "in a day"],
    [30 * 86400, "in 30 days"],
    [90 * 86400, "in 90 days"],
    [365 * 86400, "in a year"],
  ]);
  const networks = form.text("", { class: "mono", placeholder: "192.0.2.0/24, 2001:db8::/32" });
  const fields = [
    form.field("Name", "name", name),
    h("div.pair", form.field("Permissions", "role", role), form.field("Expires", "expires_in", expires)),
    scope.group,
    form.field("Source networks", "networks", networks, { hint: "Empty: any source." }),
  ];
  const body = () => ({
    name: name.value.trim(),
    ...(role.value === SCOPE ? { scopes: [scope.value()] } : role.value ? { role: role.value } : {}),
    ...(expires.value ? { expires_in: Number(expires.value) } : {}),
    ...(networks.value.trim() ? { networks: words(networks.value) } : {}),
  });
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    fields,
    h("div.buttons", h("button.button.main-action", { type: "submit" }, "Create")),
  );
  const dialog = open("New token", element);
  name.focus();
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { data } = await call("POST", "tokens", { body: body() });
      fill(
        element,
        secret(data.token, h("button.button.main-action", { type: "button", onclick: () => dialog.close() }, "Done")),
      );
      await again();
    } catch (problem) {
      form.show(element, /** @type {form.Refused} */ (problem), "token");
    }
  });
}
