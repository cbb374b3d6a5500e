// @ts-check
// What is wrong with the site, the worst in red, and what to do about each.
import { h } from "../draw/dom.js";
import { inWords } from "../api/fleet.js";
import { clock } from "../draw/format.js";
import { icon } from "../draw/icons.js";

/** What to do, by what is wrong. @type {[RegExp, string][]} */
const ADVICE = [
  [
    /^No dispatcher/,
    "Start one where it should run: systemctl start dnsvip-dispatch. Why it does not run: dnsvip doctor.",
  ],
  [
    /^No DNS server/,
    "Start one where it should run: systemctl start dnsvip-serve. Why it does not run: dnsvip doctor.",
  ],
  [/was stopped/, "Start it again, or forget it on the page of nodes where it is gone for good."],
  [/has stopped reporting/, "See its log and its machine; start it again, or forget it on the page of nodes."],
  [/behind/, "It catches up by itself within seconds; else its warnings on the page of nodes say why not."],
];

/** @param {any} now */
export function alarmOf(now) {
  const away = now.sees_status && now.database ? [databaseAway(now)] : [];
  const troubles = [...now.troubles, ...away];
  if (!troubles.length) return null;
  const critical = troubles.some((/** @type {any} */ each) => each.severity === "critical");
  return h(
    "ul.alarm",
    { class: critical ? "bad" : "warn", dataset: { key: "alarm" } },
    troubles.map((/** @type {import("../api/fleet.js").Trouble} */ each) => {
      const advice = ADVICE.find(([pattern]) => pattern.test(each.text))?.[1];
      const text = h("span", inWords(each), advice ? h("span.advice", advice) : null);
      return h("li", { dataset: { key: each.text.replace(/\d+ s/, "") } }, icon("warn"), text);
    }),
  );
}

/** @param {any} now */
function databaseAway(now) {
  const others = now.nodes_at ? `; of other nodes the last that is known is of ${clock(now.nodes_at)}` : "";
  const text = `The database does not answer. The figures of this node go on${others}. Bring the database back: changes and revocations wait for it.`;
  return { kind: "database", severity: "warning", text, since: null, node: null };
}
