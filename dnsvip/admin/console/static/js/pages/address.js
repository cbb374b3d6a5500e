// @ts-check
// The address explorer: 128 bits coloured by field, the payload inside, and each step of the verification.
import { at, get, query as asQuery } from "../api/api.js";
import { bitMap } from "../bits/bitmap.js";
import { bitsOf, fieldsOf, isPlain, parseAddress } from "../bits/bits.js";
import { fill, h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { icon } from "../draw/icons.js";
import { card, empty, facts, head, label, tag } from "../draw/parts.js";
import { may } from "../api/rights.js";
import { note } from "../frame/router.js";

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  const address = form.text(query.address ?? "", {
    type: "search",
    class: "mono",
    placeholder: "2001:db8:a:1:1aed:aa6b:c2e5:9c0b",
    maxlength: "64",
  });
  const source = form.text(query.source ?? "", { class: "mono", placeholder: "any" });
  const port = form.number(query.port ?? "", { min: "0", max: "65535", placeholder: "any" });
  const general = form.general();
  const send = h("button.button.main-action", { type: "submit" }, "Decode");
  const element = h(
    "form.address-form",
    { novalidate: true },
    form.field("Address", "address", address),
    form.field("Packet’s source", "source", source),
    form.field("Source port", "port", port),
    send,
  );
  const answer = h("div.stack", { "aria-live": "polite" });
  const run = async () => {
    const asked = { address: address.value.trim(), source: source.value.trim(), port: port.value.trim() };
    form.clear(whole);
    if (!asked.address) return fill(answer, hint());
    note("address", asked);
    try {
      const found = await get(`decode${asQuery(asked)}`, { signal });
      const readable = found.cluster && may("read", "cluster", found.cluster);
      const cluster = readable ? await get(at("clusters", found.cluster), { signal }) : null;
      fill(answer, judged(found, cluster));
    } catch (error) {
      const problem = /** @type {Error} */ (error);
      if (problem.name === "AbortError") return;
      fill(answer);
      form.show(whole, problem, "decode");
    }
  };
  const whole = h("div.stack.tight", general, element);
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  address.addEventListener("paste", () => setTimeout(run, 0));
  fill(
    view,
    head("Address explorer", {
      lead: "What an address carries, and whether a packet to it may open a flow, as this node verifies it now.",
    }),
    card("", whole),
    answer,
  );
  if (!query.address) address.focus();
  await run();
}

function hint() {
  return empty(
    "Paste an address",
    "Any address of this site: from the output of dig, or the destination in a packet capture. Source and port matter only for a proven address.",
  );
}

/**
 * @param {any} found
 * @param {any} cluster
 */
function judged(found, cluster) {
  const bits = parseAddress(found.address);
  const layout = cluster?.layout ? cluster : null;
  const { words, mood } = doneWith(found);
  const why = found.steps.find((/** @type {any} */ step) => !step.ok) ?? found.steps.at(-1);
  const verdict = h(
    "div.verdict",
    { class: mood },
    icon({ good: "check", warn: "warn" }[mood] ?? "cross", 22),
    h("div", h("strong", words), " as ", h("span.mono", found.reason), h("div.soft", why?.detail ?? "")),
  );
  return [
    verdict,
    bits
      ? card("On the wire", [
          bitMap(bits, layout ? fieldsOf(layout, found) : []),
          layout ? null : h("p.faint", whyNoFields(found, cluster)),
        ])
      : null,
    layout && Object.keys(found.values).length ? card("Inside the ciphertext", payload(layout, found)) : null,
    h(
      "div.grid",
      h("div.span-7", card("Step by step", steps(found.steps))),
      h("div.span-5", card("Contents", said(found))),
    ),
  ];
}

/**
 * What would be done with a packet to the address, which is not always what it deserves.
 * @param {any} found
 * @returns {{ words: string, mood: string }}
 */
function doneWith({ accepted, action, tier }) {
  if (action === "pass") return { words: "Routed on, not ours", mood: "plain" };
  if (action === "drop")
    return { words: accepted ? `Valid, dropped by tier ${tier}` : "Invalid, dropped", mood: "bad" };
  return accepted ? { words: "Accepted", mood: "good" } : { words: `Invalid, served in tier ${tier}`, mood: "warn" };
}

/**
 * @param {any} found
 * @param {any} cluster
 */
function whyNoFields(found, cluster) {
  if (found.cluster && !cluster) return "This token may not see the cluster, so the meaning of its bits is hidden.";
  return "Not in an IPv6 cluster of this site, so its bits have no meaning here.";
}

/** @param {any[]} all */
function steps(all) {
  return h(
    "ol.steps",
    all.map((step) =>
      h(
        "li",
        { class: step.ok ? "good" : "bad" },
        h("span.step-mark", icon(step.ok ? "check" : "cross", 14)),
        h(
          "div",
          h("strong", step.title),
          h("span.sr-only", step.ok ? " holds: " : " fails: "),
          h("div.soft", step.detail),
        ),
      ),
    ),
  );
}

/** @param {any} found */
function said(found) {
  const client = found.client
    ? h("a", { href: `#/clients/${encodeURIComponent(found.client)}` }, found.client)
    : found.values.client === 0
      ? "anonymous"
      : null;
  return facts([
    ["Address", h("span.mono", found.address)],
    ["Cluster", found.cluster],
    ["Tier", found.tier ? label(found.tier) : null],
    ["Rule", found.rule],
    ["Client", client],
    ["Mode", found.cluster && found.reason !== "plain" ? (found.mode ? "proven" : "issued") : null],
    ["Epoch slot", found.cluster && found.reason !== "plain" ? String(found.epoch) : null],
    ["Judged at", `generation ${found.generation}`],
    ["Verdict", tag(found.accepted ? "accepted" : "invalid", found.accepted ? "good" : "bad")],
    ["Its packets", tag(doneWith(found).words.toLowerCase(), doneWith(found).mood)],
  ]);
}

/**
 * @param {any} cluster
 * @param {any} found
 */
function payload(cluster, found) {
  const layout = isPlain(cluster, found) ? (cluster.source?.layout ?? []) : cluster.layout;
  const { bits, fields } = bitsOf(layout, found.values);
  const meaning = new Map([
    ["tier", found.tier],
    ["client", found.client],
  ]);
  const parts = fields.map((field) =>
    h(
      "div.payload-field",
      { class: `f-${field.colour}`, style: { flexGrow: String(Math.max(field.bits, 5)) } },
      h("div.payload-name", field.name, h("span", ` ${field.bits}`)),
      h(
        "div.payload-value",
        String(found.values[field.name]),
        meaning.get(field.name) ? h("span", ` ${meaning.get(field.name)}`) : null,
      ),
      h("div.payload-bits.mono", bits.slice(field.from, field.from + field.bits)),
    ),
  );
  return [
    h("p.soft.below", `FF1 decrypts the ${bits.length} bits of the ciphertext to these fields.`),
    h("div.payload", parts),
  ];
}
