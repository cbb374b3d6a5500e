// @ts-check
// The start: the session, then the frame, then the page that the address names.
import { onLost, onOther, onWarning } from "./api/api.js";
import { fill, h } from "./draw/dom.js";
import { icon } from "./draw/icons.js";
import { listen, start, stop } from "./api/live.js";
import { failed, toasts, warn } from "./draw/notices.js";
import { isOpen, PAGES } from "./frame/pages.js";
import { head, hidden, loading } from "./draw/parts.js";
import { may } from "./api/rights.js";
import { go, here } from "./frame/router.js";
import { frame } from "./frame/shell.js";
import { askIn, resume, signOut } from "./frame/signin.js";

/** @typedef {import("./frame/signin.js").Session} Session */

const root = /** @type {HTMLElement} */ (document.querySelector("#app"));
let shown = { leave: () => {}, name: "" };

document.body.append(toasts());
onWarning(warn);
onLost((problem) => begin(problem.message || "The session has ended."));
onOther(() => location.reload());
window.addEventListener("pageshow", (event) => event.persisted && location.reload()); // as it was left, signed in or not
begin();

/** @param {string} [why] */
async function begin(why) {
  shown.leave();
  stop();
  window.onhashchange = null;
  if (why) clear();
  const session = (why ? null : await resumed()) ?? (await askIn(root, why));
  if (here().parts[0] === "signin") history.replaceState(null, "", "#/"); // an older tab has signed in meanwhile
  const { main, mark } = frame(root, session, leave);
  window.onhashchange = () => show(main, mark, session);
  start();
  show(main, mark, session);
  leadIn();
}

/** Whoever comes to the overview of an empty site, and may fill it, is led to the first steps. */
function leadIn() {
  if (here().parts[0] !== "overview" || !may("write", "cluster")) return;
  const seen = new AbortController();
  listen(({ now }) => {
    if (!now) return;
    seen.abort();
    const none = Object.values(now.objects).every((size) => size === 0);
    if (none && !now.narrowed.length && here().parts[0] === "overview") go("start");
  }, seen.signal);
}

/** Leave nothing to be seen of a session that is over: a dialog may show a secret, and a page left may come back. */
function clear() {
  closeDialogs();
  fill(toasts());
  fill(root);
}

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
}

/** Sign out; first nothing asks any more, as what is under way would be refused. */
async function leave() {
  shown.leave();
  stop();
  try {
    const elsewhere = await signOut();
    clear();
    location.hash = "";
    if (elsewhere) location.assign(elsewhere);
    else location.reload();
  } catch (error) {
    failed(error);
    start();
    dispatchEvent(new HashChangeEvent("hashchange"));
  }
}

/** @returns {Promise<Session | null>} */
async function resumed() {
  try {
    return await resume();
  } catch (problem) {
    const { message } = /** @type {Error} */ (problem);
    fill(
      root,
      h(
        "main.signin",
        h(
          "div.empty",
          icon("warn", 30),
          h("strong", "The console cannot start now"),
          h("p", message),
          h("p.faint", "It retries automatically."),
        ),
      ),
    );
    await new Promise((resolve) => {
      setTimeout(resolve, 2000);
    });
    return resumed();
  }
}

/**
 * @param {HTMLElement} main
 * @param {(name: string) => void} mark
 * @param {Session} session
 */
async function show(main, mark, session) {
  shown.leave();
  closeDialogs();
  const { parts, query } = here();
  const page = PAGES.find((each) => each.name === parts[0]);
  const left = new AbortController();
  shown = { leave: () => left.abort(), name: parts[0] ?? "" };
  const [name = ""] = parts;
  mark(name);
  document.title = `${page?.title ?? "Not found"} · dnsvip`;
  scrollTo(0, 0);
  delete main.dataset.shown;
  if (!page) return fill(main, missing());
  if (!isOpen(page)) {
    fill(main, h("div.stack", head(page.title), hidden(page.hides ?? page.title.toLowerCase())));
    main.dataset.shown = parts.join("/");
    return;
  }
  try {
    const module = await import(`./pages/${page.name}.js`);
    if (left.signal.aborted) return;
    const view = h("div.stack", loading());
    fill(main, view);
    await module.show(view, { parts: parts.slice(1), query, signal: left.signal, session, page });
    if (!left.signal.aborted) main.dataset.shown = parts.join("/");
    if (!left.signal.aborted && document.activeElement === document.body)
      main.querySelector("h1")?.focus({ preventScroll: true });
  } catch (error) {
    if (!left.signal.aborted) fill(main, broken(error));
  }
}

function missing() {
  return h(
    "div.empty",
    icon("inbox", 30),
    h("strong", "There is no such page"),
    h("a", { href: "#/overview" }, "To the overview"),
  );
}

/** @param {any} error */
function broken(error) {
  const again = h(
    "button.button",
    { type: "button", onclick: () => dispatchEvent(new HashChangeEvent("hashchange")) },
    "Try again",
  );
  return h(
    "div.empty",
    { role: "alert" },
    icon("warn", 30),
    h("strong", "This page cannot be shown now"),
    h("p", error.message),
    again,
  );
}
