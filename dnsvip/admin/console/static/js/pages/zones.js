// @ts-check
// Zones: the list, and one with its record sets, its zone file, who may transfer it, and its history.
import { call, get } from "../api/api.js";
import { h } from "../draw/dom.js";
import { moment, whole } from "../draw/format.js";
import { objectPage } from "../kinds/objectpage.js";
import { facts, filled } from "../draw/parts.js";
import { recordTable } from "../records/table.js";
import { may } from "../api/rights.js";
import { pathOf, take } from "../forms/saving.js";

/** What the text of a new zone begins with. */
export const TEXT = "$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 3600 1209600 300\n@ IN NS ns1\nns1 IN A 192.0.2.53\n";

/** @type {import("../frame/pages.js").Show} */
export function show(view, context) {
  return objectPage(view, context, {
    kind: "zone",
    lead: "Records that are the same for everyone. The addresses of services are synthesized per client and are in no zone.",
    nothing: "No zones yet",
    removal: "Names in it are refused from now on.",
    form: { initial: { text: TEXT } },
    under: (zone) => (may("read", "status") ? known(zone, context.signal) : null),
    main: (made, again) => {
      const zone = made.name();
      const { text, primaries, catalog } = made.held?.data ?? {};
      if (!text) return null; // a secondary that nothing has been transferred to
      const derived = Boolean(primaries?.length) || catalog === "produce";
      const readonly = derived || !may("write", "zone", zone);
      const saved = async () => {
        // a text that somebody is changing stays what it was made from, so that saving it is refused
        if (!("text" in made.shown.changes())) take(made, await call("GET", pathOf(made.about, zone)));
        await again();
      };
      return recordTable(zone, { context, readonly, saved });
    },
  });
}

/**
 * What is known of a zone: the answers from it by the node that answers here, and of a secondary zone the serial that is
 * stored, the last check, the expiry and what is wrong.
 * @param {{ name: string, primaries?: string[] }} zone
 * @param {AbortSignal} signal
 */
function known({ name, primaries }, signal) {
  const place = h("div.secondary");
  filled(
    place,
    async () => {
      const { secondaries, dns } = await get("status", { signal });
      const answers = /** @type {number} */ (dns.zones?.[name] ?? 0);
      if (!primaries?.length) return facts([["Answers by this node", whole(answers)]]);
      const state = secondaries.find((/** @type {any} */ each) => each.zone === name);
      return facts([
        ["Answers by this node", whole(answers)],
        ["Serial", state?.serial ?? "nothing yet"],
        ["Primary", state?.primary],
        ["Checked", moment(state?.checked_at)],
        ["Expires", moment(state?.expires_at)],
        ["Trouble", state?.error],
      ]);
    },
    signal,
  )();
  return place;
}
