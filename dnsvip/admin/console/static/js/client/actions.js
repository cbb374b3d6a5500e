// @ts-check
// What can be done to a client besides editing it: its state, its key, its enrolment.
import { at, call } from "../api/api.js";
import { h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { confirm, done, open } from "../draw/notices.js";
import { button, save } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { take } from "../forms/saving.js";

/** @typedef {import("../forms/objectform.js").ObjectForm} ObjectForm */
/** @typedef {import("../api/api.js").Schemas["ClientShown"]} Client */
/** @typedef {{ title: string, done: string, text: string, from: string[], danger?: boolean }} Change */

/** What is offered beside everything that refuses a client's addresses. */
export const END_FLOWS = "End its connections too, within a second";

/** @type {Record<string, Change>} */
const STATES = {
  disabled: {
    title: "Disable",
    done: "disabled",
    text: "Its addresses are rejected until it is enabled again. Its key stays valid.",
    from: ["enabled"],
  },
  revoked: {
    title: "Revoke",
    done: "revoked",
    text: "All its addresses are rejected at once, including those it holds. If it is enabled again, it needs a new enrolment.",
    from: ["enabled", "disabled"],
    danger: true,
  },
  enabled: {
    title: "Enable",
    done: "enabled",
    text: "It is answered and admitted again. A revoked client gets a new key and needs a new enrolment.",
    from: ["disabled", "revoked"],
  },
};

/**
 * The buttons for all that may be done to a client; `again` shows its head and history anew.
 * @param {ObjectForm} made
 * @param {() => Promise<void>} again
 */
export function actionsOf(made, again) {
  const client = /** @type {Client | undefined} */ (made.held?.data);
  if (!client || !may("write", "client", client.name)) return [];
  const states = Object.entries(STATES).filter(([, how]) => how.from.includes(client.state));
  return [
    ...states.map(([state, how]) => stateButton(made, client, state, how, again)),
    keyButton(made, client, again),
    may("write", "enrolment", client.name) ? enrolmentButton(client) : null,
  ];
}

/**
 * @param {ObjectForm} made
 * @param {Client} client
 * @param {string} state
 * @param {Change} how
 * @param {() => Promise<void>} again
 */
function stateButton(made, client, state, how, again) {
  const put = async (/** @type {string} */ wanted, /** @type {boolean} */ ends = false) => {
    const body = ends ? { state: wanted, end_flows: true } : { state: wanted };
    take(made, await call("PATCH", at("clients", client.name), { body }));
    await again();
  };
  const act = async () => {
    const { title, text, danger } = how;
    const also = state === "enabled" ? undefined : { label: END_FLOWS, checked: true };
    if (!(await confirm({ title: `${title} ${client.name}?`, text, action: title, danger, also }))) return;
    await put(state, also?.checked);
    done(`${client.name} ${how.done}`, danger ? undefined : () => put(client.state));
  };
  return button(how.title, act, { kind: how.danger ? "danger" : "" });
}

/**
 * @param {ObjectForm} made
 * @param {Client} client
 * @param {() => Promise<void>} again
 */
function keyButton(made, client, again) {
  return button("New key", async () => {
    const text =
      "Proofs made with the present key are refused from now on; it needs a new enrolment. This cannot be undone.";
    if (!(await confirm({ title: `A new key for ${client.name}?`, text, action: "New key", danger: true }))) return;
    take(made, await call("POST", `${at("clients", client.name)}/new-key`));
    await again();
    done(`${client.name} has a new key`);
  });
}

/** @param {Client} client */
function enrolmentButton(client) {
  return button("Enrolment", () => askEnrolment(client.name), { name: "download" });
}

/** @param {string} name */
function askEnrolment(name) {
  const servers = form.text("", { placeholder: "192.0.2.53:53, [2001:db8::53]:53" });
  const about = "The file contains this client’s key: hand it over safely. Import it on the client with ";
  const element = h(
    "form.stack",
    { novalidate: true },
    h("p.soft", about, h("code", "dnsvip client import FILE")),
    form.general(),
    form.field("DNS servers to query", "servers", servers, {
      hint: "Addresses with ports, separated by commas. Empty: the servers of the DNS group of its tier.",
    }),
    h("div.buttons", h("button.button.main-action", { type: "submit" }, "Download")),
  );
  const dialog = open(`Enrolment of ${name}`, element);
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    const listed = servers.value.split(",").map((each) => each.trim());
    try {
      const body = { servers: listed.filter(Boolean) };
      const { data } = await call("POST", `${at("clients", name)}/enrolment`, { body });
      save(`${name}.enrolment.json`, `${JSON.stringify(data, null, 2)}\n`);
      dialog.close();
      done("Enrolment created; the audit tells of it");
    } catch (problem) {
      form.show(element, /** @type {form.Refused} */ (problem), "enrolment");
    }
  });
}
