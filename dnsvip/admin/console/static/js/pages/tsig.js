// @ts-check
// TSIG keys. A secret is only ever written, as the API shows none; one that is generated here is shown once.
import { call } from "../api/api.js";
import { h } from "../draw/dom.js";
import { confirm, open } from "../draw/notices.js";
import { objectPage } from "../kinds/objectpage.js";
import { button, copyable } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { pathOf, take } from "../forms/saving.js";

/** @typedef {import("../forms/patch.js").Json} Json */

const BYTES = 32;

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  let generated = false;
  const prepare = (/** @type {Json} */ body) => {
    generated = !body["secret"];
    return generated ? { ...body, secret: random() } : body;
  };
  return objectPage(view, context, {
    kind: "tsig",
    lead: "A query signed with a key identifies a client or permits a zone transfer. Secrets are written, never shown.",
    nothing: "No TSIG keys yet",
    removal: "This is refused while a client or a zone refers to it, and cannot be undone: its secret is not readable.",
    lasting: true,
    form: {
      prepare,
      made: (body, data) => (generated ? shownOnce({ ...data, secret: body["secret"] }) : null),
    },
    actions: (made, again) =>
      may("write", "tsig", made.held?.data["name"]) ? [button("New secret", () => renew(made, again))] : [],
  });
}

/**
 * @param {import("../forms/objectform.js").ObjectForm} made
 * @param {() => Promise<void>} again
 */
async function renew(made, again) {
  if (!made.held) return;
  const { data, etag } = made.held;
  const text = "The new secret is shown once. Messages signed with the present one are refused from then on.";
  if (!(await confirm({ title: `A new secret for ${data["name"]}?`, text, action: "New secret", danger: true })))
    return;
  const secret = random();
  take(made, await call("PATCH", pathOf(made.about, data["name"]), { body: { secret }, etag }));
  await again();
  shownOnce({ ...data, secret });
}

function random() {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(BYTES))));
}

/**
 * Show a key as name servers, nsupdate and dig take it, the only time; resolves when it is closed.
 * @param {Record<string, any>} key
 * @returns {Promise<void>}
 */
function shownOnce({ name, algorithm, secret }) {
  const close = h("button.button.main-action", { type: "button" }, "Done");
  const dialog = open(name, [
    h("p.soft", "This is the only time the secret is shown."),
    copyable(`key "${name}" { algorithm ${algorithm}; secret "${secret}"; };`, "Copy the key"),
    h("div.buttons", close),
  ]);
  close.addEventListener("click", () => dialog.close());
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve());
  });
}
