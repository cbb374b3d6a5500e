// @ts-check
// The frame: navigation, search, generation, alerts, theme, sign-out. Pages are shown in its `main`.
import { fill, h } from "../draw/dom.js";
import { finder } from "./finder.js";
import { inWords } from "../api/fleet.js";
import { clock, whole } from "../draw/format.js";
import { showHelp } from "./help.js";
import { icon } from "../draw/icons.js";
import { bind } from "./keyboard.js";
import { listen } from "../api/live.js";
import { isOpen, PAGES, SECTIONS } from "./pages.js";
import { go, link } from "./router.js";

/** @typedef {import("./signin.js").Session} Session */

/**
 * Build the frame into `root`; returns the element that pages are shown in and a function to mark the page.
 * @param {HTMLElement} root
 * @param {Session} session
 * @param {() => unknown} leave  signs out
 */
export function frame(root, session, leave) {
  const main = h("main.page", { id: "page", tabindex: "-1" });
  const away = h("div", { id: "away", role: "status", "aria-live": "polite" });
  const shell = h(
    "div.shell",
    h("a.skip", { href: "#page", onclick: skip(main) }, "Skip to the page"),
    side(session),
    h("div.main", top(leave), away, main),
  );
  fill(root, shell);
  shell.addEventListener("click", ({ target }) => {
    if (target === shell || (target instanceof Element && target.closest(".side nav a"))) menu(false);
  });
  bind("/", () => document.getElementById("find")?.focus());
  bind("?", showHelp);
  bind("t", switchTheme);
  bind("Escape", escape);
  PAGES.filter(isOpen).forEach((page) => bind(`g ${page.key}`, () => go(page.name)));
  listen((state) => showState(state, away));
  return { main, mark };
}

/** @param {HTMLElement} main */
function skip(main) {
  return (/** @type {MouseEvent} */ event) => {
    event.preventDefault();
    main.focus();
  };
}

/** @param {Session} session */
function side(session) {
  const groups = SECTIONS.map(({ title, pages }) => [
    title && pages.some(isOpen) ? h("p.nav-title", title) : null,
    pages
      .filter(isOpen)
      .map((page) => h("a", { href: link(page.name), dataset: { page: page.name } }, icon(page.icon), page.title)),
  ]);
  const foot = h("div.side-foot", { id: "foot" }, h("div", session.actor));
  return h(
    "aside.side",
    { id: "side" },
    h("a.brand", { href: "#/overview" }, h("img", { src: "/console/icon.svg", alt: "" }), "dnsvip"),
    h("nav", { "aria-label": "Pages" }, groups),
    foot,
  );
}

/** @param {() => unknown} leave */
function top(leave) {
  /** @param {string} name @param {string} text @param {() => unknown} action @param {import("../draw/dom.js").Props} extra */
  const button = (name, text, action, extra = {}) =>
    h(
      "button.button.quiet.icon",
      { type: "button", "aria-label": text, title: text, onclick: action, ...extra },
      icon(name),
    );
  const theme = button("moon", "Light or dark (t)", switchTheme, { id: "theme" });
  theme.append(icon("sun"));
  const toggle = button("menu", "Pages", () => menu(), {
    class: "menu-button",
    id: "menu",
    "aria-expanded": "false",
    "aria-controls": "side",
  });
  const generation = h("span.generation", { id: "generation" }, h("span.dot"), "…");
  return h(
    "header.top",
    toggle,
    finder(),
    h(
      "div.top-end",
      generation,
      button("help", "Keyboard and help (?)", showHelp, { class: "wide" }),
      theme,
      button("out", "Sign out", leave, { id: "sign-out" }),
    ),
  );
}

function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // storage may be forbidden; then the choice lasts as long as the page
  }
}

/** @param {boolean} [open] */
function menu(open) {
  const shell = /** @type {HTMLElement} */ (document.querySelector(".shell"));
  const now = open ?? shell.dataset.menu !== "open";
  shell.dataset.menu = now ? "open" : "";
  byId("menu").setAttribute("aria-expanded", String(now));
  if (now) /** @type {HTMLElement | null} */ (document.querySelector(".side nav a"))?.focus();
}

function escape() {
  const shell = /** @type {HTMLElement | null} */ (document.querySelector(".shell"));
  if (shell?.dataset["menu"] === "open") {
    menu(false);
    byId("menu").focus();
  } else if (document.activeElement instanceof HTMLElement) {
    document.activeElement.blur();
  }
}

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * Mark a page in the navigation.
 * @param {string} name
 */
function mark(name) {
  for (const each of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".side nav a"))) {
    if (each.dataset.page === name) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

/**
 * @param {import("../api/live.js").State} state
 * @param {HTMLElement} away
 */
function showState({ now, problem }, away) {
  const troubles = problem
    ? [
        problem.status === 0
          ? "The server does not answer; retrying. What is shown may be out of date."
          : problem.message,
      ]
    : troublesOf(now);
  const text = troubles.join(" ");
  const critical = !problem && now?.troubles.some((/** @type {any} */ each) => each.severity === "critical");
  if (away.dataset.text !== text) {
    away.dataset.text = text;
    const advised = !problem && troubles.length === now?.troubles.filter(toBeSaid).length; // an alarm says them, too
    away.className = text ? `away ${critical ? "bad" : ""} ${advised ? "advised" : ""}` : "";
    fill(away, text ? [icon("warn"), h("span", text)] : null);
  }
  if (!now) return;
  const uncertain = now.generation === null || problem || now.troubles.length;
  const mood = critical ? "bad" : uncertain ? "warn" : now.sees_status ? "good" : "";
  const generation = now.generation ?? now.served_generation;
  fill(byId("generation"), h("span.dot", { class: mood }), h("span.word", "generation "), whole(generation));
  const foot = byId("foot");
  if (!foot.dataset.version) {
    foot.dataset.version = now.version;
    foot.append(h("div", `dnsvip ${now.version}`));
  }
}

/** @param {import("../api/fleet.js").Trouble} trouble */
function toBeSaid({ kind }) {
  return kind !== "behind" && kind !== "late"; // a node is behind for a moment after every change, or late when busy
}

/** @param {any} now */
function troublesOf(now) {
  /** @type {string[]} */
  const found = [];
  if (now.database)
    found.push(
      `The database is unavailable${now.database_since ? ` since ${clock(now.database_since)}` : ""}: ${now.database}. ` +
        `DNS and dispatchers continue with generation ${now.served_generation}, this node's last good snapshot. ` +
        "Objects are shown as of then, read only; changes are not possible.",
    );
  if (now.dispatcher?.error) found.push(`The dispatcher of this machine does not answer: ${now.dispatcher.error}.`);
  return [...found, ...now.troubles.filter(toBeSaid).map(inWords)];
}
