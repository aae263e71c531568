// The page: takes what the server tells, and shows the view that the address names after its "#".

import { arrange, bytes, clean, counted, element, objectsOf, time, write } from "./format.js";
import { Graph, memberNames } from "./graph.js";
import { charts, History } from "./history.js";
import { link, makeTables, othersOf, precise, taskOf, waitOf } from "./tables.js";

const $ = (id) => document.getElementById(id);
const TABLES = ["processes", "queues", "pools", "locks", "others", "deaths"];
const VIEWS = [["", "Overview"], ...TABLES.map((name) => [name, name[0].toUpperCase() + name.slice(1)])];
/** Rows of a table in the overview, and in its own view. */
const FEW = 12;
const MANY = 500;
/** How many queues and pools have time lines in the overview. */
const MOST_CHARTS = 4;
const RETRY = 2000;

const history = new History();
/** The last look, what follows from it, and how the connection is. */
const current = { seen: null, rates: null, family: null, state: "connecting", trouble: "" };
const tables = makeTables(current);
let isPaused = false;
let isDue = false;
let view = null;

// Views: each has a node, and shows a look.

function overview() {
  const graphNode = element("div", { class: "graph" });
  const graphNote = element("p", { class: "more" });
  const graph = new Graph(graphNode, graphNote);
  const lines = element("div", { class: "charts" });
  const drawn = new Map();
  const chartsOf = (kind, id) => {
    const key = `${kind} ${id}`;
    if (!drawn.has(key)) drawn.set(key, charts[kind](id));
    return drawn.get(key);
  };
  const section = (id, title, ...children) =>
    element("section", { "aria-labelledby": id, class: id }, element("h2", { id }, title), ...children);
  const node = element("div", { class: "overview" });
  const graphSection = section("graph-title", "What waits for what", graphNode, graphNote);
  const lineSection = section("lines-title", "The last minutes", lines);
  node.append(graphSection, lineSection, ...TABLES.map((name) => tables[name].node));
  return {
    node,
    show(seen, rates) {
      graph.update(seen, rates);
      const isBusy = (kind, id) => history.hasMoved(`${kind} ${id}`);
      const queues = seen.queues.filter((queue) => isBusy("queue", queue.id));
      const busiest = queues.sort((one, other) => other.depth - one.depth || other.put - one.put);
      const shown = [
        ...chartsOf("family", ""),
        ...busiest.slice(0, MOST_CHARTS).flatMap((queue) => chartsOf("queue", queue.id)),
        ...seen.pools
          .filter((pool) => isBusy("pool", pool.id))
          .slice(0, MOST_CHARTS)
          .flatMap((pool) => chartsOf("pool", pool.id)),
      ];
      arrange(
        lines,
        shown.map((chart) => chart.node),
      );
      for (const chart of shown) chart.update(history);
      for (const name of TABLES) showTable(name, seen, FEW);
    },
  };
}

function tableView(name) {
  return { node: element("div", {}, tables[name].node), show: (seen) => showTable(name, seen, MANY) };
}

function showTable(name, seen, limit) {
  const rows = { others: () => othersOf(seen), deaths: () => history.deaths }[name]?.() ?? seen[name];
  const kinds = name === "others" ? ["semaphores", "events", "conditions", "barriers", "collections"] : [name];
  const beyond = kinds.reduce((sum, kind) => sum + (seen.beyond[kind] ?? 0), 0);
  tables[name].update(rows, limit, beyond);
}

/** A view of one thing: its facts, its time lines, and what else belongs to it. */
function details(kind, title, id, find, facts, more = null) {
  const heading = element("h2", {}, title);
  const list = element("dl");
  const known = charts[kind](id);
  const gone = element("p", { class: "trouble", hidden: "" }, "It is gone. What was seen of it last:");
  const node = element(
    "div",
    { class: "details" },
    element("p", {}, element("a", { href: "#/" }, "Overview")),
    heading,
    gone,
    list,
    element("div", { class: "charts" }, ...known.map((chart) => chart.node)),
  );
  if (more) node.append(more.node);
  const texts = [];
  return {
    node,
    show(seen) {
      const found = find(seen);
      gone.hidden = Boolean(found);
      for (const chart of known) chart.update(history);
      if (!found) return;
      facts(found, seen).forEach(([name, value], at) => {
        const parts = Array.isArray(value) ? value : [String(value)];
        const text = JSON.stringify([name, parts]);
        if (texts[at] === text) return;
        texts[at] = text;
        while (list.children.length < 2 * (at + 1)) list.append(element("dt"), element("dd"));
        list.children[2 * at].textContent = name;
        list.children[2 * at + 1].replaceChildren(
          ...parts.map((part) => (part.href ? element("a", { href: part.href }, part.text) : part)),
        );
      });
      more?.show(found);
    },
  };
}

const labelOf = (one) => [
  ["Name", clean(one.name ?? "-")],
  ["Made at", clean(one.made ?? "-")],
];
const pidLinks = (pids) => (pids.length ? pids.flatMap((pid) => [link(pid, "process", pid), " "]) : ["-"]);

function processView(id) {
  const pid = Number(id);
  return details(
    "process",
    `Process ${pid}`,
    pid,
    (seen) => seen.processes.find((one) => one.pid === pid),
    (one, seen) => [
      ["Name", clean(one.name) || "-"],
      ["Program", clean(one.program) || "-"],
      ["State", one.state],
      [
        "Started by",
        one.parent
          ? [link(one.parent, "process", one.parent), one.start_method ? `, ${one.start_method}` : ""]
          : (one.start_method ?? "-"),
      ],
      ["Role", one.role ?? "-"],
      ["Runs", taskOf(current.family.tasks.get(pid))],
      [
        "Waits for",
        one.waits.length
          ? one.waits.flatMap((wait, at) => [...(at ? ["; "] : []), ...waitOf(wait, current.family)])
          : "nothing",
      ],
      [
        "Holds",
        seen.locks
          .filter((lock) => lock.holder?.pid === pid)
          .map((lock) => {
            const made = lock.made ? ` (made at ${clean(lock.made)})` : "";
            const name = lock.name ? ` "${clean(lock.name)}"` : "";
            return `${lock.kind} ${lock.id}${name}${made}, ${lock.waiters.length} waiting`;
          })
          .join("; ") || "no lock",
      ],
      [
        "Worker of",
        [
          seen.pools
            .filter((pool) => pool.workers.some((worker) => worker.pid === pid))
            .map((pool) => link(`pool ${pool.id}`, "pool", pool.id))[0] ?? "no pool",
        ],
      ],
      ["Age", time(one.age_ms)],
      ["Processor time", time(one.cpu_ms)],
      ["Threads", one.threads],
      ["Private memory", bytes(one.private_bytes)],
      [
        "Shared memory",
        `${bytes(one.shared_bytes)} resident; ${bytes(one.owned_bytes)} of items that it took or is about to send`,
      ],
      ["Children", pidLinks(seen.processes.filter((other) => other.parent === pid).map((other) => other.pid))],
    ],
  );
}

function poolView(id) {
  const workers = tables.workers;
  const more = {
    node: workers.node,
    show: (pool) =>
      workers.update(
        pool.workers.map((worker, number) => ({ ...worker, number })),
        Infinity,
      ),
  };
  return details(
    "pool",
    `Pool ${id}`,
    id,
    (seen) => seen.pools.find((pool) => pool.id === id),
    (pool) => [
      ...labelOf(pool),
      ["State", pool.state],
      ["Queued", `${pool.queued}${pool.is_complete ? "" : " or more"}`],
      ["Running", pool.running],
      ["Over, not collected", pool.uncollected],
      ["Done", `${pool.done}, ${pool.failed} of them failed`],
      [
        "Task times",
        pool.median_ms === null
          ? "-"
          : `half of the last ones at most ${precise(pool.median_ms)}, 99% at most ${precise(pool.p99_ms)}`,
      ],
      ["Workers", `${pool.workers.length}; ${pool.workers_ended} have ended`],
    ],
    more,
  );
}

function queueView(id) {
  return details(
    "queue",
    `Queue ${id}`,
    id,
    (seen) => seen.queues.find((queue) => queue.id === id),
    (queue) => [
      ...labelOf(queue),
      ["Items", `${queue.is_depth_exact ? "" : "at most "}${queue.depth}`],
      ["Limit", queue.maxsize || "none"],
      ["Put so far", queue.put],
      ["Oldest item", queue.oldest_ms === null ? "-" : `${time(queue.oldest_ms)} or more`],
      ["Calls of task_done", queue.tasks_done],
      ["Waiting to get", pidLinks(queue.getters)],
      ["Waiting to put", pidLinks(queue.putters)],
      ["Waiting in join", pidLinks(queue.joiners)],
    ],
  );
}

const DETAILS = new Map(Object.entries({ process: processView, pool: poolView, queue: queueView }));

function route() {
  // Names and identifiers need no escapes. What names no view leads to the overview.
  const [name, id] = location.hash.replace(/^#\/?/, "").split("/");
  const of = DETAILS.get(name);
  view = of && id ? of(id) : TABLES.includes(name) ? tableView(name) : overview();
  view.node.dataset.view = [name, id].filter(Boolean).join("/");
  $("view").replaceChildren(view.node);
  for (const anchor of $("views").querySelectorAll("a")) {
    const isHere = anchor.hash === `#/${TABLES.includes(name) ? name : ""}` && !of;
    if (isHere) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  draw();
}

// What all views have.

function showHead(seen) {
  const root = seen.processes.find((process) => process.pid === seen.root);
  write($("program"), clean(seen.program) || "procession");
  const age = Math.max(0, ...seen.processes.map((process) => process.age_ms));
  const first = root ? `first process ${root.pid}` : "the first process is gone";
  const count = seen.processes.length + (seen.beyond.processes ?? 0);
  const facts = [
    first,
    counted(count, "process", "processes"),
    `${time(age)} old`,
    `${bytes(seen.committed_bytes)} of shared memory`,
    `${counted(seen.deaths, "process has", "processes have")} ended`,
  ];
  if (seen.left_out) facts.push(`${counted(seen.left_out, "object is", "objects are")} not shown`);
  write($("facts"), facts.join(", "));
  $("families").hidden = !seen.is_one_of_several;
  document.title = `${seen.deadlocks.length ? "Deadlock: " : ""}${clean(seen.program) || "procession"}`;
}

/** Deadlocks are read aloud once, when they are found; how long they last is not. */
function showDeadlocks(seen) {
  $("deadlocks").hidden = !seen.deadlocks.length;
  write($("deadlocks-title"), seen.deadlocks.length === 1 ? "Deadlock" : `${seen.deadlocks.length} deadlocks`);
  write(
    $("announcement"),
    seen.deadlocks
      .map((deadlock) => `Deadlock of ${deadlock.members.length} threads: ${memberNames(deadlock)}.`)
      .join(" "),
  );
  const list = $("deadlock-list");
  const texts = seen.deadlocks.flatMap((deadlock) => deadlock.sentences.map(clean));
  while (list.children.length < texts.length) list.append(element("p"));
  while (list.children.length > texts.length) list.lastElementChild.remove();
  texts.forEach((text, at) => write(list.children[at], text));
}

function showWarnings(seen) {
  $("warnings").hidden = !seen.warnings.length;
  const list = $("warning-list");
  while (list.children.length < seen.warnings.length) list.append(element("li"));
  while (list.children.length > seen.warnings.length) list.lastElementChild.remove();
  seen.warnings.forEach((warning, at) => write(list.children[at], clean(warning.text)));
}

function showState() {
  write($("state"), isPaused && current.state === "live" ? "paused" : current.state);
  $("state").className = current.state.replaceAll(" ", "-");
  $("trouble").hidden = !current.trouble;
  write($("trouble"), current.trouble);
}

function draw() {
  isDue = false;
  showState();
  const { seen } = current;
  if (!seen) return;
  showHead(seen);
  showDeadlocks(seen);
  showWarnings(seen);
  view.show(seen, current.rates);
}

function drawSoon() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(draw);
}

// The stream.

function take(seen) {
  const rates = history.add(seen);
  current.state = "live";
  current.trouble = "";
  if (isPaused) return;
  const holders = new Map(seen.locks.map((lock) => [lock.id, lock.holder]));
  const names = new Map(objectsOf(seen).map((one) => [one.id, one.name]));
  const tasks = new Map(seen.pools.flatMap((pool) => pool.workers).map((worker) => [worker.pid, worker]));
  Object.assign(current, { seen, rates, family: { holders, names, tasks } });
  drawSoon();
}

function follow() {
  const source = new EventSource("api/events");
  const tell = (state, trouble) => {
    Object.assign(current, { state, trouble });
    drawSoon();
  };
  source.addEventListener("family", (event) => take(JSON.parse(event.data)));
  source.addEventListener("trouble", (event) => tell("trouble", JSON.parse(event.data).error));
  source.addEventListener("ended", (event) => {
    source.close();
    tell("ended", `${JSON.parse(event.data).error}. What was seen last:`);
  });
  source.addEventListener("error", () => {
    if (current.state === "ended") return;
    tell("connection lost", "The connection to procession web is lost. What was seen last:");
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, RETRY);
  });
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  showState();
});
$("skip").addEventListener("click", (event) => {
  // The part of the address behind "#" names the view.
  event.preventDefault();
  $("main").focus();
});
$("views").append(
  element("ul", {}, ...VIEWS.map(([name, title]) => element("li", {}, element("a", { href: `#/${name}` }, title)))),
);
addEventListener("hashchange", () => {
  route();
  $("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("resize", drawSoon);
route();
follow();
