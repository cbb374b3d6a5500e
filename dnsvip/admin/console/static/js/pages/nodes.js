// Nodes: who reports, with which roles and version, and how far behind.
import { at, call } from "../api.js";
import { fill, h } from "../dom.js";
import { ago, count, duration, moment, whole } from "../format.js";
import { hurry, listen } from "../live.js";
import { confirm, done } from "../notices.js";
import { button, card, empty, facts, head, label, loading, refill, table, tag } from "../parts.js";
import { may } from "../rights.js";

export async function show(view, { signal }) {
  const place = h("div", loading(3));
  const here = h("div", loading(4));
  fill(
    view,
    head("Nodes", {
      lead: "Every process of the site reports about once a second. One that is silent for longer than its lease is waited for no more.",
    }),
    card("", place, { flush: true }),
    card("This node", here),
  );
  listen(({ now }) => {
    if (!now || document.querySelector("dialog[open]")) return;
    refill(place, now.database ? empty("The database is away", now.database) : list(now));
    fill(here, own(now));
  }, signal);
}

function list(now) {
  if (!now.nodes.length) return empty("No node reports");
  const columns = [
    { title: "Node", cell: (node) => h("strong", node.name) },
    { title: "State", cell: (node) => tag(node.live ? (node.behind ? "behind" : "live") : "silent") },
    {
      title: "Roles",
      cell: (node) =>
        h(
          "span.row",
          node.roles.map((role) => label(role)),
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
    { title: "Version", cell: (node) => node.version },
    {
      title: "Up for",
      cell: (node) =>
        node.started_at ? h("span", { title: moment(node.started_at) }, duration(now.at - node.started_at)) : "",
    },
    { title: "Heard of", cell: (node) => ago(node.seen_at, now.at) },
    {
      title: "Says",
      cell: (node) =>
        node.warnings?.length
          ? h(
              "ul.warn-text",
              node.warnings.map((warning) => h("li", warning)),
            )
          : h("span.faint", "all well"),
    },
    {
      title: "",
      cell: (node) =>
        node.live || !may("delete", "node")
          ? null
          : button("Forget", () => forget(node), { small: true, label: `Forget ${node.name}` }),
    },
  ];
  return table("Nodes", columns, now.nodes);
}

async function forget(node) {
  if (
    !(await confirm({
      title: `Forget ${node.name}?`,
      text: "Its silent processes are taken off the list. Where one comes back it is listed again.",
      action: "Forget",
    }))
  )
    return;
  await call("DELETE", at("nodes", node.name));
  done(`${node.name} forgotten`);
  hurry();
}

function own(now) {
  const dispatcher = now.dispatcher;
  const dispatch = dispatcher?.error
    ? tag(dispatcher.error, "bad")
    : dispatcher
      ? `${dispatcher.mode ?? "user"} mode on ${dispatcher.device ?? "?"}, ${whole(dispatcher.packets ?? 0)} packets, MTU ${dispatcher.mtu ?? "?"}`
      : "none on this machine";
  const outcomes = Object.values(now.dns.outcomes ?? {}).reduce((sum, each) => sum + each, 0);
  return facts([
    ["Version", now.version],
    ["Works with", `generation ${now.served_generation}`],
    ["Database", now.database ? tag("away", "bad") : `generation ${now.generation}`],
    ["DNS messages", whole(outcomes)],
    ["Dispatcher", dispatch],
    [
      "Objects",
      Object.entries(now.objects ?? {})
        .map(([kind, number]) => count(number, kind.replace("_", " ").replace(/s$/, "")))
        .join(", "),
    ],
  ]);
}
