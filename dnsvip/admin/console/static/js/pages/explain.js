// @ts-check
// Explain: a query and its requester; which rule identifies it, what it is answered, where its packets would go.
import { get, query as asQuery } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import * as form from "../forms/form.js";
import { icon } from "../draw/icons.js";
import { card, empty, facts, head, label, tag } from "../draw/parts.js";
import { link, note } from "../frame/router.js";

const TYPES = ["AAAA", "A", "HTTPS", "SVCB", "TXT", "MX", "NS", "SOA", "CNAME", "ANY"];

/** @type {[string, string][]} */
const TRANSPORTS = [
  ["", "UDP; TLS with a certificate or token"],
  ["udp", "UDP"],
  ["tcp", "TCP"],
  ["tls", "TLS (DoT)"],
  ["https", "HTTPS (DoH)"],
  ["quic", "QUIC (DoQ)"],
  ["h3", "HTTP/3 (DoH)"],
];

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { query, signal }) {
  const service = query.qname
    ? null
    : (await get("services?limit=1", { signal }).catch(() => ({ items: [] }))).items[0]?.name;
  const inputs = {
    qname: form.text(query.qname ?? service ?? "", { placeholder: "www.example.test", class: "mono" }),
    qtype: form.choice(query.qtype ?? "AAAA", TYPES),
    source: form.text(query.source ?? "", { placeholder: "2001:db8:77::1", class: "mono" }),
    ecs: form.text(query.ecs ?? "", { placeholder: "198.51.100.0/24", class: "mono" }),
    tsig: form.text(query.tsig ?? "", { placeholder: "name of a key", class: "mono" }),
    tls: form.text(query.tls ?? "", { placeholder: "name in a certificate", class: "mono" }),
    token: form.text(query.token ?? "", { placeholder: "name of a DNS token", class: "mono" }),
    transport: form.choice(query.transport ?? "", TRANSPORTS),
    listener: form.text(query.listener ?? "", { placeholder: "public" }),
  };
  /** @type {Record<string, string>} */
  const hints = {
    source: "Source of the query: the resolver, or the client itself.",
    ecs: "Client subnet that the resolver reports; used from trusted resolvers only.",
    tsig: "The key that signs the query.",
    tls: "A name in the client certificate that is shown.",
    token: "The DNS token that the query carries, by its name.",
  };
  /** @type {Record<string, string>} */
  const names = {
    qname: "Name",
    qtype: "Type",
    source: "Source address",
    ecs: "Client subnet (ECS)",
    tsig: "TSIG key",
    tls: "TLS certificate",
    token: "DNS token",
    transport: "Transport",
    listener: "Listener",
  };
  const fields = Object.entries(inputs).map(([key, control]) =>
    form.field(names[key] ?? key, key, control, { hint: hints[key] }),
  );
  const element = h(
    "form.stack",
    { novalidate: true },
    form.general(),
    h("div.explain-form", fields),
    h("div.row", h("button.button.main-action", { type: "submit" }, "Explain")),
  );
  const answer = h("div.stack", { "aria-live": "polite" });
  const run = async () => {
    const asked = Object.fromEntries(Object.entries(inputs).map(([key, control]) => [key, control.value.trim()]));
    form.clear(element);
    note("explain", asked);
    try {
      fill(answer, explained(await get(`explain${asQuery(asked)}`, { signal })));
    } catch (error) {
      const problem = /** @type {Error} */ (error);
      if (problem.name === "AbortError") return;
      fill(answer);
      form.show(element, problem, "explain");
    }
  };
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  fill(
    view,
    head("Explain", {
      lead: "Which rule would identify a requester, what it would be answered, and where the dispatcher would send its packets. Nothing is sent.",
    }),
    card("", element),
    answer,
  );
  if (query.qname) await run();
  else fill(answer, empty("Enter a query", "Enter a name and the source of the query."));
}

/** @param {any} found */
function explained(found) {
  const { client, rule, answer } = found;
  const by = rule ? `identified by ${rule.step}${rule.value ? ` = ${rule.value}` : ""}` : "not identified by any step";
  const idle = rule && !rule.in_use ? `; it belongs to ${rule.client ?? "a client"}, which is not enabled` : "";
  return [
    h(
      "div.verdict",
      { class: client ? "good" : "plain" },
      icon(client ? "clients" : "help", 22),
      h(
        "div",
        h("strong", client ? h("a", { href: link(["clients", client.name]) }, client.name) : "Anonymous"),
        client ? [" in tier ", h("span.mono", client.tier)] : null,
        h("div.soft", `${by}${idle}; ${answer.rcode}${answer.why ? `, ${answer.why}` : ""}`),
      ),
    ),
    h(
      "div.grid",
      h("div.span-6.stack", card("Identification", trials(found.steps)), card("Answer", answerOf(answer))),
      h(
        "div.span-6.stack",
        found.flows.length
          ? found.flows.map(flowOf)
          : card("Forwarding", h("p.soft", "The answer contains no address.")),
      ),
    ),
  ];
}

/**
 * Each step of the identification, in the site's order, with its result.
 * @param {any[]} all
 */
function trials(all) {
  return h(
    "ol.steps",
    all.map((trial) => {
      const mark = trial.decided ? icon("check", 14) : icon("right", 13);
      return h(
        "li",
        { class: trial.decided ? "good" : "skipped" },
        h("span.step-mark", mark),
        h(
          "div",
          h("strong", trial.step),
          trial.asked ? h("span.mono.soft", ` ${trial.asked}`) : null,
          h("div.soft", trial.detail),
        ),
      );
    }),
  );
}

/** @param {any} answer */
function answerOf(answer) {
  const records = answer.records.length
    ? h("pre.records", answer.records.join("\n"))
    : h("p.soft.below", "No records.");
  return [
    records,
    answer.left_out ? h("p.soft.below", `And ${answer.left_out} more records.`) : null,
    facts([
      ["Outcome", label(answer.outcome)],
      ["Rcode", label(answer.rcode, answer.rcode === "NOERROR" ? "good" : "warn")],
      ["Address", answer.why],
      ["ECS scope", answer.ecs_scope === null ? null : `/${answer.ecs_scope}`],
    ]),
  ];
}

/**
 * One address of the answer, and what the dispatcher would do with the first packet to it.
 * @param {any} flow
 */
function flowOf(flow) {
  const share = flow.candidates.map((/** @type {any} */ candidate) =>
    h(
      "li.share",
      h("span", candidate.server, candidate.state === "up" ? null : [" ", tag(candidate.state)]),
      h("progress", { max: "1", value: candidate.share, "aria-label": `Share of ${candidate.server}` }),
      h("span.number.faint", `${(100 * candidate.share).toFixed(1)} %`),
    ),
  );
  const route = flow.judgement.steps.find((/** @type {any} */ step) => step.title === "route");
  return card(`To ${flow.address}`, [
    facts([
      ["Verdict", tag(`${flow.action}: ${flow.reason}`, flow.action === "drop" ? "bad" : "good")],
      ["Tier", flow.tier ? label(flow.tier) : null],
      ["Pool", flow.pool],
      ["Decided by", route ? route.detail : null],
      ["Priority", flow.priority],
      ["Server", flow.server ? h("strong", flow.server) : null],
      ["Forward", flow.server ? `${flow.forward}${flow.dscp === null ? "" : `, DSCP ${flow.dscp}`}` : null],
      ["Assumed source", h("span.mono", `${flow.source} port ${flow.port} to port ${flow.service_port}`)],
    ]),
    share.length ? [h("h3.below-top", "Shares of new flows"), h("ul.shares", share)] : null,
    h(
      "p.below-top",
      h(
        "a.button.small",
        { href: link("address", { address: flow.address, source: flow.source, port: flow.port }) },
        "Open in the address explorer",
      ),
    ),
  ]);
}
