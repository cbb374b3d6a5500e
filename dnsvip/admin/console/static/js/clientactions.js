// What can be done to a client besides editing it: its state, its key, its enrolment, its removal.
import { at, call } from "./api.js";
import { h } from "./dom.js";
import * as form from "./form.js";
import { confirm, done, open } from "./notices.js";
import { button, save } from "./parts.js";
import { may } from "./rights.js";
import { go } from "./router.js";

const STATES = {
  disabled: {
    title: "Disable",
    done: "disabled",
    text: "Its addresses are rejected until it is enabled again. Its key stays good.",
    from: ["enabled"],
  },
  revoked: {
    title: "Revoke",
    done: "revoked",
    text: "Its addresses are rejected from now on, everywhere, also those it holds. Enabled again, it needs a new enrolment.",
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

/** The buttons for all that may be done to a client; `draw` shows it anew. */
export function actionsOf(client, draw) {
  if (!may("write", "client", client.name)) return [];
  const states = Object.entries(STATES).filter(([, how]) => how.from.includes(client.state));
  return [
    ...states.map(([state, how]) => stateButton(client, state, how, draw)),
    keyButton(client, draw),
    enrolmentButton(client),
    may("delete", "client", client.name) && removeButton(client),
  ];
}

function stateButton(client, state, how, draw) {
  const act = async () => {
    const text = `${client.name}: ${how.text}`;
    if (!(await confirm({ title: `${how.title} ${client.name}?`, text, action: how.title, danger: how.danger })))
      return;
    await call("PATCH", at("clients", client.name), { body: { state } });
    done(
      `${client.name} ${how.done}`,
      how.danger
        ? null
        : async () => {
            await call("PATCH", at("clients", client.name), { body: { state: client.state } });
            await draw();
          },
    );
    await draw();
  };
  return button(how.title, act, { kind: how.danger ? "danger" : "" });
}

function keyButton(client, draw) {
  return button("New key", async () => {
    const text =
      "What it proves with its key so far is refused from now on; it needs a new enrolment. This cannot be undone.";
    if (!(await confirm({ title: `A new key for ${client.name}?`, text, action: "New key", danger: true }))) return;
    await call("POST", `${at("clients", client.name)}/new-key`);
    done(`${client.name} has a new key`);
    await draw();
  });
}

function removeButton(client) {
  return button(
    "",
    async () => {
      const text = "It is unknown from now on, and answered as anonymous. Its number should not be used again.";
      if (!(await confirm({ title: `Remove ${client.name}?`, text, action: "Remove", danger: true }))) return;
      await call("DELETE", at("clients", client.name));
      done(`${client.name} removed`);
      go("clients");
    },
    { name: "trash", kind: "danger", label: "Remove client" },
  );
}

function enrolmentButton(client) {
  return button(
    "Enrolment",
    () => {
      const servers = form.text("", { placeholder: "192.0.2.53:53, [2001:db8::53]:53" });
      const general = form.general();
      const send = h("button.button.main-action", { type: "submit" }, "Download");
      const element = h(
        "form.stack",
        { novalidate: true },
        h(
          "p.soft",
          "The file holds this client’s key: hand it over safely. Where it is used: ",
          h("code", "dnsvip client import FILE"),
        ),
        general,
        form.field("DNS servers it shall ask", "servers", servers, {
          hint: "Addresses with ports, separated by commas. Without any it asks its own resolver.",
        }),
        h("div.buttons", send),
      );
      const dialog = open(`Enrolment of ${client.name}`, element);
      element.addEventListener("submit", async (event) => {
        event.preventDefault();
        const listed = servers.value
          .split(",")
          .map((each) => each.trim())
          .filter(Boolean);
        try {
          const { data } = await call("POST", `${at("clients", client.name)}/enrolment`, { body: { servers: listed } });
          save(`${client.name}.enrolment.json`, `${JSON.stringify(data, null, 2)}\n`);
          dialog.close();
          done("The enrolment was made; the node has logged that");
        } catch (problem) {
          form.show(element, problem, "enrolment");
        }
      });
    },
    { name: "download" },
  );
}
