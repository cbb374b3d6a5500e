// The fields of a client. `value()` gives the object that the API takes.
import { fill, h } from "./dom.js";
import * as form from "./form.js";
import { icon } from "./icons.js";

const STEPS = ["source", "ecs", "tsig", "tls", "token", "geo", "listener"];
const EXAMPLES = {
  source: "2001:db8:77::/48",
  ecs: "198.51.100.0/24",
  tsig: "name-of-the-key",
  tls: "name in the certificate",
  token: "token",
  geo: "country:DE",
  listener: "name of the listener",
};
const BINDS = [
  ["none", "nothing"],
  ["address", "source address"],
  ["address+port", "source address and port"],
];

/** The form for `client`, with these tiers to choose from. */
export function clientForm(client, tiers) {
  const id = form.number(client.id, { min: "1", step: "1" });
  const tier = form.choice(client.tier, tiers);
  const matches = list(
    client.match.map((entry) => Object.entries(entry)[0]),
    matchRow,
    "Add a way to know it",
  );
  const attributes = list(Object.entries(client.attributes ?? {}), attributeRow, "Add an attribute");
  const bind = form.choice(client.proof?.bind ?? "address", BINDS);
  const single = form.check("Each proven address opens one flow only", "proof.single_use", client.proof?.single_use);
  const required = form.check("Its unproven addresses are not good enough", "proof.required", client.proof?.required);
  const element = h(
    "div.stack",
    h(
      "div.pair",
      form.field("Tier", "tier", tier),
      form.field("Id", "id", id, { hint: "Carried in its addresses; never use one again." }),
    ),
    form.group("Known by", "match", matches.element, { hint: "The first step in the site’s order that fits decides." }),
    form.field("A proof is bound to", "proof.bind", bind),
    single,
    required,
    form.group("Attributes", "attributes", attributes.element, {
      hint: "What the layout of a cluster carries besides, such as lang.",
    }),
  );
  const value = () => ({
    id: id.value === "" ? null : Number(id.value),
    tier: tier.value,
    match: matches.value().map(([step, text]) => ({ [step]: text })),
    proof: { bind: bind.value, single_use: form.control(single).checked, required: form.control(required).checked },
    attributes: Object.fromEntries(
      attributes.value().map(([key, text]) => [key, /^\d+$/.test(text) ? Number(text) : text]),
    ),
  });
  return { element, value };
}

/** Pairs that can be added and removed. */
function list(pairs, rowOf, more) {
  const rows = [];
  const body = h("div.pairs");
  const add = h("button.button.small", { type: "button", onclick: () => put(["", ""], true) }, icon("plus", 14), more);
  const paint = () =>
    fill(
      body,
      rows.map((row) => row.element),
    );
  const put = (pair, focus) => {
    const row = rowOf(pair, () => {
      rows.splice(rows.indexOf(row), 1);
      paint();
      add.focus();
    });
    rows.push(row);
    paint();
    if (focus) row.element.querySelector("select, input").focus();
  };
  pairs.forEach((pair) => put(pair));
  return {
    element: h("div.stack.tight", body, add),
    value: () => rows.map((row) => row.value()).filter(([key, text]) => key && text),
  };
}

function removal(remove, what) {
  return h(
    "button.button.quiet.icon.small",
    { type: "button", "aria-label": `Remove ${what}`, onclick: remove },
    icon("cross", 15),
  );
}

function matchRow([step, text], remove) {
  const kind = form.choice(step || "source", STEPS, { "aria-label": "Known by" });
  const value = form.text(text, { class: "mono", "aria-label": "Its value", placeholder: EXAMPLES[kind.value] });
  kind.addEventListener("change", () => value.setAttribute("placeholder", EXAMPLES[kind.value]));
  return {
    element: h("div.pair-row", kind, value, removal(remove, "this match")),
    value: () => [kind.value, value.value.trim()],
  };
}

function attributeRow([key, text], remove) {
  const name = form.text(key, { "aria-label": "Attribute", placeholder: "lang" });
  const value = form.text(String(text), { "aria-label": "Its value", placeholder: "fr" });
  return {
    element: h("div.pair-row", name, value, removal(remove, "this attribute")),
    value: () => [name.value.trim(), value.value.trim()],
  };
}
