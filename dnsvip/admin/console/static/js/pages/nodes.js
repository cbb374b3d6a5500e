// @ts-check
// Nodes: which processes report, with which roles and version, and how far behind they are.
import { at, call } from "../api/api.js";
import { fill, h } from "../draw/dom.js";
import { ago, count, duration, moment, whole } from "../draw/format.js";
import { inWords, stateOf } from "../api/fleet.js";
import { icon } from "../draw/icons.js";
import { hurry, listen } from "../api/live.js";
import { confirm, done } from "../draw/notices.js";
import { button, card, empty, facts, head, label, loading, tag } from "../draw/parts.js";
import { reconcile } from "../draw/reconcile.js";
import { may } from "../api/rights.js";
import { table } from "../lists/table.js";

/** @type {import("../frame/pages.js").Show} */
export async function show(view, { signal }) {
  const place = h("div", loading(3));
  const here = h("div", loading(4));
  const glance = h("div.stack");
  fill(
    view,
    head("Nodes", {
      lead: "Every process reports once a second; nothing waits for one that is silent for longer than its lease.",
    }),
    glance,
    card("", place, { flush: true }),
    card("This node", here),
  );
  listen(({ now }) => {
    if (!now) return;
    reconcile(glance, now.database ? null : atAGlance(now));
    reconcile(place, now.database ? empty("The database is unavailable", now.database) : list(now));
    reconcile(here, own(now));
  }, signal);
}

/** Role -> what its processes are called. @type {[string, string][]} */
const ROLES = [
  ["dns", "DNS servers"],
  ["dispatch", "Dispatchers"],
  ["admin", "API and console"],
];

/**
 * How many live in each role, and what is wrong with what to do about it.
 * @param {any} now
 */
function atAGlance(now) {
  const figures = ROLES.map(([role, title]) => {
    const all = now.nodes.filter((/** @type {any} */ node) => node.roles.includes(role));
    const live = all.filter((/** @type {any} */ node) => node.live).length;
    const kind = live ? (live < all.length ? "warn" : "") : "bad";
    return h(
      "div.figure",
      { class: kind, dataset: { key: role } },
      h("div.soft", title),
      h("div.figure-value", all.length ? `${live} of ${all.length}` : "none"),
      h("div.faint.figure-note", all.length ? (live < all.length ? `${all.length - live} gone` : "all live") : ""),
    );
  });
  const troubles = now.troubles.map((/** @type {any} */ trouble) =>
    h("li", { dataset: { key: trouble.text } }, icon("warn"), h("span", inWords(trouble), " ", remedy(trouble, now))),
  );
  const critical = now.troubles.some((/** @type {any} */ each) => each.severity === "critical");
  return [
    h("div.numbers", figures),
    troubles.length ? h("ul.alarm", { class: critical ? "bad" : "warn", dataset: { key: "alarm" } }, troubles) : null,
  ];
}

/**
 * What to do about a trouble of one node.
 * @param {any} trouble
 * @param {any} now
 */
function remedy({ kind, node: name }, now) {
  const node = now.nodes.find((/** @type {any} */ each) => each.name === name && !each.live);
  if (!node) return "";
  const unit = node.roles.includes("dispatch") ? "dnsvip-dispatch" : "dnsvip-serve";
  if (kind === "stopped" || node.stopped)
    return h("span", "Start it again: ", h("code", `systemctl start ${unit}`), ".");
  return h("span", "Look there: ", h("code", `systemctl status ${unit}`), "; forget it if it is gone for good.");
}

/**
 * Those that need somebody first: gone, then behind, then with warnings.
 * @param {any[]} nodes
 */
function worstFirst(nodes) {
  const weight = (/** @type {any} */ node) =>
    (node.live ? 0 : 4) + (node.behind ? 2 : 0) + (node.warnings?.length ? 1 : 0);
  return [...nodes].sort((a, b) => weight(b) - weight(a) || a.name.localeCompare(b.name, "en", { numeric: true }));
}

/** @param {any} now */
function list(now) {
  if (!now.nodes.length) return empty("No node reports");
  /** @type {import("../lists/table.js").Column<any>[]} */
  const columns = [
    { title: "Node", cell: (node) => h("strong", node.name) },
    { title: "State", cell: stateOf },
    {
      title: "Roles",
      cell: (node) =>
        h(
          "span.row",
          node.roles.map((/** @type {string} */ role) => label(role)),
        ),
    },
    {
      title: "Generation",
      number: true,
      cell: (node) => [
        whole(node.generation),
        node.behind
          ? h(
              "div.warn-text",
              `${count(node.behind, "generation")} behind${node.lag_seconds ? `, for ${duration(node.lag_seconds)}` : ""}`,
            )
          : null,
      ],
    },
    { title: "Version", extra: true, cell: (node) => node.version },
    {
      title: "Up for",
      cell: (node) =>
        node.started_at && node.live
          ? h("span", { title: moment(node.started_at) }, duration(now.at - node.started_at))
          : "",
    },
    {
      title: "Last report",
      cell: (node) => [
        ago(node.seen_at, now.at),
        node.live ? null : h("div.bad-text", `gone since ${moment(node.seen_at)}`),
      ],
    },
    {
      title: "Warnings",
      cell: (node) =>
        node.warnings?.length
          ? h(
              "ul.warn-text",
              node.warnings.map((/** @type {string} */ warning) => h("li", warning)),
            )
          : h("span.faint", "none"),
    },
    { title: "", cell: (node) => [drainButton(node), forgetButton(node)] },
  ];
  return table("Nodes", columns, worstFirst(now.nodes), { key: (node) => `${node.name} ${node.instance}` });
}

/** @param {any} node */
function forgetButton(node) {
  if (node.live || !may("delete", "node", node.name)) return null;
  return button("Forget", () => forget(node), { small: true, label: `Forget ${node.name}` });
}

/** @param {any} node */
function drainButton(node) {
  if (!may("write", "node", node.name)) return null;
  const drained = node.drained_at !== null;
  if (!drained && !node.live) return null;
  const action = drained ? "Undrain" : "Drain";
  return button(action, () => (drained ? undrain(node) : drain(node)), {
    small: true,
    label: `${action} ${node.name}`,
  });
}

/** @param {any} node */
async function drain(node) {
  if (
    !(await confirm({
      title: `Drain ${node.name}?`,
      text: "It is not ready any more and its routes are withdrawn, so it gets no traffic. What runs goes on. It stays drained after a restart.",
      action: "Drain",
    }))
  )
    return;
  await call("POST", at("nodes", node.name, "drain"));
  done(`${node.name} is drained`);
  hurry();
}

/** @param {any} node */
async function undrain(node) {
  await call("POST", at("nodes", node.name, "undrain"));
  done(`${node.name} gets traffic as soon as it is ready`);
  hurry();
}

/** @param {any} node */
async function forget(node) {
  if (
    !(await confirm({
      title: `Forget ${node.name}?`,
      text: "Its silent processes are removed from the list. One that reports again is listed again.",
      action: "Forget",
    }))
  )
    return;
  await call("DELETE", at("nodes", node.name));
  done(`${node.name} forgotten`);
  hurry();
}

/** @param {any} now */
function own(now) {
  const dispatcher = now.dispatcher;
  const dispatch = dispatcher?.error
    ? tag(dispatcher.error, "bad")
    : dispatcher
      ? `${dispatcher.mode ?? "user"} mode on ${dispatcher.device ?? "?"}, ${whole(dispatcher.packets ?? 0)} packets, MTU ${dispatcher.mtu ?? "?"}`
      : "none on this machine";
  const outcomes = /** @type {number[]} */ (Object.values(now.dns.outcomes ?? {})).reduce((sum, each) => sum + each, 0);
  return facts([
    ["Version", now.version],
    ["Serving", `generation ${now.served_generation}`],
    ["Database", now.database ? tag("unavailable", "bad") : `generation ${now.generation}`],
    ["DNS messages", whole(outcomes)],
    ["Dispatcher", dispatch],
    [
      "Objects",
      Object.entries(now.objects ?? {})
        .map(([kind, number]) => count(Number(number), kind.replace("_", " ").replace(/s$/, "")))
        .join(", "),
    ],
  ]);
}
