// TSIG keys: the list, and one with its algorithm and history. A secret is only ever written, as the API shows none;
// one that is made here is shown once.
import { at, call } from "../api.js";
import { fill, h } from "../dom.js";
import * as form from "../form.js";
import { historyOf } from "../history.js";
import { paged } from "../lists.js";
import { confirm, done, open } from "../notices.js";
import { button, card, copyable, empty, filled, head, label, table } from "../parts.js";
import { may } from "../rights.js";
import { go, link } from "../router.js";

const ALGORITHMS = ["hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1"];
const BYTES = 32;
const BACK = { href: "#/tsig", text: "TSIG keys" };

export async function show(view, context) {
  const [name] = context.parts;
  if (name === undefined) return showList(view, context);
  return name === "new" && context.query.make ? showNew(view) : showKey(view, context, name);
}

async function showList(view, { signal }) {
  const place = h("div");
  const add = h("a.button.main-action", { href: link(["tsig", "new"], { make: "1" }) }, "New TSIG key");
  fill(
    view,
    head("TSIG keys", {
      lead: "Who signs a query with one is known by it, or may have a zone whole. Secrets are written and never shown.",
      actions: may("write", "tsig") ? [add] : [],
    }),
    card("", place, { flush: true }),
  );
  const columns = [
    { title: "Key", cell: (key) => h("a.lead", { href: link(["tsig", key.name]) }, key.name) },
    { title: "Algorithm", cell: (key) => label(key.algorithm) },
  ];
  await paged(
    place,
    "tsig",
    (items) =>
      items.length
        ? table("TSIG keys", columns, items, { to: (key) => ["tsig", key.name] })
        : empty("No TSIG key yet", "Clients are known by other things too; a key is for those who can sign."),
    signal,
  ).show("?limit=100");
}

async function showKey(view, { signal }, name) {
  const path = at("tsig", name);
  const held = await call("GET", path, { signal });
  const history = h("div");
  const readAgain = filled(history, () => historyOf("tsig", held.data.name, signal), signal);
  const patched = async (body) => {
    Object.assign(held, await call("PATCH", path, { body, etag: held.etag }));
    if (may("read", "audit")) readAgain();
  };
  const fields = keyFields(held.data);
  const element = keyForm(fields, "Save", held.data.name, async () => {
    const [before, value] = [held.data.algorithm, fields.value()];
    if (!value.secret && value.algorithm === before) return;
    await patched(value);
    fields.secret.value = "";
    done(`${name} changed`, value.secret ? null : () => patched({ algorithm: before }).then(again));
  });
  const again = () => {
    fields.algorithm.value = held.data.algorithm;
  };
  fill(
    view,
    head(held.data.name, { crumb: BACK, actions: actions(held, path, patched) }),
    card("TSIG key", element),
    may("read", "audit") ? card("History", history, { flush: true }) : null,
  );
  if (may("read", "audit")) await readAgain();
}

function actions(held, path, patched) {
  const { name } = held.data;
  const renew = async () => {
    const text = "It is shown once. What is signed with the present secret is refused from then on.";
    if (!(await confirm({ title: `A new secret for ${name}?`, text, action: "New secret", danger: true }))) return;
    const secret = random();
    await patched({ secret });
    once({ ...held.data, secret });
  };
  const remove = async () => {
    const text =
      "It is refused where a client or a zone still names it. This cannot be undone: nobody can read its secret.";
    if (!(await confirm({ title: `Remove ${name}?`, text, action: "Remove", danger: true }))) return;
    await call("DELETE", path, { etag: held.etag });
    done(`${name} removed`);
    go("tsig");
  };
  return [
    may("write", "tsig") && button("New secret", renew),
    may("delete", "tsig") && button("", remove, { name: "trash", kind: "danger", label: "Remove TSIG key" }),
  ];
}

function showNew(view) {
  const name = form.text("", { class: "mono", placeholder: "acme-key" });
  const fields = keyFields();
  const element = keyForm(
    fields,
    "Make",
    () => filed(name.value),
    async () => {
      if (!name.value.trim()) throw form.nameless();
      const given = fields.value();
      const body = { ...given, secret: given.secret || random() };
      const { data } = await call("PUT", at("tsig", name.value.trim()), { body, headers: { "If-None-Match": "*" } });
      fields.secret.value = "";
      done(`${data.name} made`);
      const on = () => go(["tsig", data.name]);
      if (given.secret) on();
      else once({ ...data, secret: body.secret }).addEventListener("close", on);
    },
    form.field("Name", "name", name, { hint: "Both sides call it the same." }),
  );
  fill(view, head("New TSIG key", { crumb: BACK }), card("", element));
  name.focus();
}

/** The form of a name that the API files a key under, and tells errors of it by. */
function filed(name) {
  return name.trim().toLowerCase().replace(/\.+$/, "") || ".";
}

function keyFields(key) {
  const fixed = !may("write", "tsig");
  const algorithm = form.choice(key?.algorithm ?? ALGORITHMS[0], ALGORITHMS, { disabled: fixed });
  const secret = form.text("", { class: "mono", placeholder: key ? "" : "base64, as tsig-keygen writes it" });
  const hint = key ? "Base64. Empty: it stays as it is." : "Empty: one is made here, and shown once.";
  const elements = [
    form.field("Algorithm", "algorithm", algorithm),
    fixed ? null : form.field(key ? "Another secret" : "Secret", "secret", secret, { hint }),
  ];
  const value = () => {
    const typed = secret.value.trim();
    return { algorithm: algorithm.value, ...(typed ? { secret: typed } : {}) };
  };
  return { algorithm, secret, elements, value };
}

function keyForm(fields, action, name, send, before) {
  const save = h("button.button.main-action", { type: "submit" }, action);
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    before,
    fields.elements,
    may("write", "tsig") && h("div.row", save),
  );
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    form.clear(element);
    save.disabled = true;
    try {
      await send();
    } catch (problem) {
      form.show(element, problem, `tsig.${typeof name === "string" ? name : name()}`);
    } finally {
      save.disabled = false;
    }
  });
  return element;
}

function random() {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(BYTES))));
}

/** Show a key as name servers, nsupdate and dig take it, the only time; returns the dialog. */
function once({ name, algorithm, secret }) {
  const close = h("button.button.main-action", { type: "button" }, "Done");
  const dialog = open(name, [
    h("p.soft", "This is the only time that it is shown."),
    copyable(`key "${name}" { algorithm ${algorithm}; secret "${secret}"; };`, "Copy the key"),
    h("div.buttons", close),
  ]);
  close.addEventListener("click", () => dialog.close());
  return dialog;
}
