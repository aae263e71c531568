// Tables whose rows are changed in place, so that what is selected, focused or read aloud stays.

import { arrange, bytes, clean, element, named, time, write } from "./format.js";

/** A link to the page of a process or an object. */
export const link = (text, kind, id) => ({ text: String(text), href: `#/${kind}/${id}` });
const pid = (process) => link(process, "process", process);
const several = (pids) =>
  pids.length
    ? pids
        .slice(0, 20)
        .flatMap((one) => [pid(one), " "])
        .concat(pids.length > 20 ? `and ${pids.length - 20} more` : [])
    : "-";

class Table {
  /** `columns`: title, cell (a text, or texts and links), and `by`, what a row is sorted by. */
  constructor(name, title, columns, key) {
    Object.assign(this, { name, title, columns, key, rows: new Map(), sortedBy: 0, isReversed: false });
    this.heads = columns.map((column, at) => {
      const button = element("button", { type: "button" }, column.title);
      button.addEventListener("click", () => this.sort(at));
      return element("th", { scope: "col", class: column.isNumber ? "number" : "" }, button);
    });
    this.body = element("tbody");
    this.rest = element("a", { href: `#/${name}` });
    this.none = element("span");
    this.more = element("p", { class: "more" }, this.rest, this.none);
    const heading = element("h2", { id: `${name}-title` }, title);
    this.filter = element("input", { type: "search", "aria-label": `Filter ${name}`, placeholder: "Filter" });
    this.filter.addEventListener("input", () => this.show());
    const table = element(
      "table",
      { "aria-labelledby": `${name}-title` },
      element("thead", {}, element("tr", {}, ...this.heads)),
      this.body,
    );
    const scroller = element(
      "div",
      { class: "scroller", tabindex: "0", role: "region", "aria-labelledby": `${name}-title` },
      table,
    );
    this.node = element(
      "section",
      { class: "table", id: `table-${name}` },
      element("div", { class: "head" }, heading, this.filter),
      scroller,
      this.more,
    );
    this.mark();
  }

  sort(at) {
    this.isReversed = this.sortedBy === at && !this.isReversed;
    this.sortedBy = at;
    this.mark();
    this.show();
  }

  mark() {
    this.heads.forEach((head, at) => {
      if (at === this.sortedBy) head.setAttribute("aria-sort", this.isReversed ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  /** Show these rows, at most `limit`; `beyond` others are not known here. */
  update(rows, limit, beyond = 0) {
    Object.assign(this, { all: rows, limit, beyond });
    this.show();
  }

  show() {
    const needle = this.filter.value.toLowerCase();
    const by = this.columns[this.sortedBy].by;
    let rows = (this.all ?? []).map((row) => ({ row, cells: this.columns.map((column) => cells(column.cell(row))) }));
    if (needle) rows = rows.filter(({ cells }) => cells.some((cell) => textOf(cell).toLowerCase().includes(needle)));
    const order = this.isReversed ? -1 : 1;
    const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
    rows.sort((one, other) => order * compare(by(one.row), by(other.row)));
    const kept = new Map();
    for (const { row, cells } of rows.slice(0, this.limit)) {
      const key = String(this.key(row));
      const line = this.rows.get(key) ?? {
        node: element(
          "tr",
          {},
          ...this.columns.map((column, at) =>
            element(at ? "td" : "th", at ? { class: column.isNumber ? "number" : "" } : { scope: "row" }),
          ),
        ),
        shown: [],
      };
      cells.forEach((cell, at) => {
        const text = JSON.stringify(cell);
        if (line.shown[at] === text) return;
        line.shown[at] = text;
        const kinds = this.columns[at].isNumber ? ["number"] : [];
        line.node.children[at].className = kinds
          .concat(cell.filter((part) => part.kind).map((part) => part.kind))
          .join(" ");
        line.node.children[at].replaceChildren(
          ...cell.map((part) => (part.href ? element("a", { href: part.href }, part.text) : (part.text ?? part))),
        );
      });
      kept.set(key, line);
    }
    this.rows = kept;
    arrange(
      this.body,
      [...kept.values()].map((line) => line.node),
    );
    const missing = rows.length - kept.size + this.beyond;
    const isEmpty = !(this.all ?? []).length;
    write(this.rest, missing > 0 ? `and ${missing} more` : "");
    // A link without a text would still be reached with the keyboard.
    this.rest.hidden = missing <= 0;
    write(this.none, isEmpty ? "none" : "");
    this.more.hidden = missing <= 0 && !isEmpty;
    this.node.classList.toggle("empty", isEmpty);
  }
}

const cells = (cell) =>
  (Array.isArray(cell) ? cell : [cell]).map((part) => (typeof part === "number" ? String(part) : part));
const textOf = (cell) => cell.map((part) => part.text ?? part).join("");

const column = (title, cell, by) => ({ title, cell, by: by ?? ((row) => textOf(cells(cell(row)))) });
const numbers = (title, by, text = (value) => value) => ({
  title,
  by: (row) => by(row) ?? -1,
  cell: (row) => (by(row) === undefined || by(row) === null ? "-" : text(by(row))),
  isNumber: true,
});

/** What a thread waits for, in words and links. */
export function waitOf(wait, family) {
  const held = wait.object && family.holders.get(wait.object);
  const parts = [wait.operation];
  if (wait.object && wait.kind) {
    const kind = { queue: "queue", pool: "pool" }[wait.kind];
    const name = family.names.get(wait.object);
    const text = `${wait.kind} ${wait.object}${name ? ` "${clean(name)}"` : ""}`;
    parts.push(` on `, kind ? link(text, kind, wait.object) : text);
  }
  if (held?.pid) parts.push(", held by ", pid(held.pid));
  parts.push(` for ${time(wait.for_ms)}`);
  return parts;
}

/** What task of a pool a worker runs, in words. */
export const taskOf = (worker) =>
  worker && worker.item_ms !== null ? `${clean(worker.function ?? "task")} for ${time(worker.item_ms)}` : "-";

/** A time in milliseconds that may be a fraction of one. */
export function precise(ms) {
  if (ms < 1) return `${Math.round(ms * 1000)}us`;
  return ms < 10 ? `${ms.toFixed(1)}ms` : time(Math.round(ms));
}

const first = (title, kind) =>
  column(
    title,
    (row) => [link(row.id, kind, row.id)],
    (row) => idOf(row.id),
  );
const idOf = (id) => {
  const [cell, generation] = id.split(".").map(Number);
  return cell * 2 ** 20 + generation;
};
const rate = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)}/s`;
const plainId = (title) =>
  column(
    title,
    (row) => row.id,
    (row) => idOf(row.id),
  );
const name = () => column("Name", (row) => clean(row.name ?? "-"));
const made = () => column("Made at", (row) => clean(row.made ?? "-"));
const MOST_WAITS = 8;

/** All tables of the overview, by name. */
export function makeTables(current) {
  const family = () => current.family;
  const share = (process) => current.rates?.cpu.get(process.pid);
  const flow = (id) => current.rates?.objects.get(id);
  return {
    processes: new Table(
      "processes",
      "Processes",
      [
        column(
          "PID",
          (row) => [row.pid ? pid(row.pid) : "-"],
          (row) => row.pid,
        ),
        column("Name", (row) => clean(row.name) + (row.role ? ` [${row.role}]` : "")),
        column("State", (row) => [{ text: row.state, kind: row.state }]),
        column("Start", (row) => row.start_method ?? "-"),
        numbers("Age", (row) => row.age_ms, time),
        numbers("CPU", share, (value) => `${value.toFixed(0)}%`),
        numbers("CPU time", (row) => row.cpu_ms, time),
        numbers("Private", (row) => row.private_bytes, bytes),
        numbers("Shared", (row) => row.shared_bytes, bytes),
        column("Runs", (row) => taskOf(family().tasks.get(row.pid))),
        column(
          "Waits for",
          (row) =>
            row.waits.length
              ? row.waits.slice(0, MOST_WAITS).flatMap((wait, at) => [...(at ? ["; "] : []), ...waitOf(wait, family())])
              : "-",
          (row) => -Math.max(-1, ...row.waits.map((wait) => wait.for_ms)),
        ),
      ],
      (row) => `${row.pid}/${row.name}`,
    ),
    queues: new Table(
      "queues",
      "Queues",
      [
        first("Queue", "queue"),
        name(),
        numbers(
          "Items",
          (row) => row.depth,
          (value) => value,
        ),
        numbers("Limit", (row) => row.maxsize || undefined),
        numbers("In", (row) => flow(row.id)?.inward, rate),
        numbers("Out", (row) => flow(row.id)?.outward, rate),
        numbers("Oldest", (row) => row.oldest_ms, time),
        numbers("Put", (row) => row.put),
        column(
          "Waiting to get",
          (row) => several(row.getters),
          (row) => -row.getters.length,
        ),
        column(
          "To put",
          (row) => several(row.putters),
          (row) => -row.putters.length,
        ),
        column(
          "To join",
          (row) => several(row.joiners),
          (row) => -row.joiners.length,
        ),
        made(),
      ],
      (row) => row.id,
    ),
    locks: new Table(
      "locks",
      "Locks",
      [
        plainId("Lock"),
        column("Kind", (row) => row.kind),
        // One column, so that the table fits beside the others.
        column("Name or line", (row) => clean(row.name ?? row.made ?? "-")),
        column("Held by", (row) =>
          row.holder
            ? row.holder.pid
              ? [link(named(row.holder.name, row.holder.pid), "process", row.holder.pid)]
              : "a process that is gone"
            : "-",
        ),
        column(
          "Waiting",
          (row) => several(row.waiters),
          (row) => -row.waiters.length,
        ),
      ],
      (row) => row.id,
    ),
    pools: new Table(
      "pools",
      "Pools",
      [
        first("Pool", "pool"),
        name(),
        column("State", (row) => row.state),
        numbers("Queued", (row) => row.queued),
        numbers("Running", (row) => row.running),
        numbers("Done", (row) => row.done),
        numbers("Failed", (row) => row.failed),
        numbers("Per second", (row) => flow(row.id)?.outward, rate),
        numbers("Median", (row) => row.median_ms, precise),
        numbers("99%", (row) => row.p99_ms, precise),
        numbers("Ended", (row) => row.workers_ended),
        column(
          "Workers",
          (row) => `${row.workers.length} (${row.workers.filter((worker) => worker.item_ms !== null).length} busy)`,
          (row) => row.workers.length,
        ),
        made(),
      ],
      (row) => row.id,
    ),
    others: new Table(
      "others",
      "Others",
      [
        plainId("Object"),
        column("Kind", (row) => row.kind),
        name(),
        column("State", (row) => row.state),
        column(
          "Waiting",
          (row) => several(row.waiters),
          (row) => -row.waiters.length,
        ),
        made(),
      ],
      (row) => row.id,
    ),
    deaths: new Table(
      "deaths",
      "Deaths",
      [
        column(
          "PID",
          (row) => String(row.pid),
          (row) => -row.number,
        ),
        column("Name", (row) => clean(row.name) || "-"),
        column("How", (row) => [{ text: row.how, kind: row.isBad ? "bad" : "" }]),
        column("Noticed", (row) => row.when),
      ],
      (row) => row.number,
    ),
    workers: new Table(
      "workers",
      "Workers",
      [
        column(
          "PID",
          (row) => [row.pid ? pid(row.pid) : "gone"],
          (row) => row.pid ?? 0,
        ),
        column("State", (row) => (row.item_ms !== null ? "busy" : row.is_ready ? "idle" : "starting")),
        column("Task", (row) => (row.item_ms === null ? "-" : clean(row.function ?? "task"))),
        numbers("Task for", (row) => row.item_ms, time),
        numbers("Tasks done", (row) => row.tasks_done),
        numbers("Failed", (row) => row.tasks_failed),
        numbers("Busy", (row) => row.busy_ms, time),
      ],
      (row) => row.pid ?? `gone ${row.number}`,
    ),
  };
}

/** Semaphores, events, conditions, barriers and collections, as rows of one table. */
export function othersOf(seen) {
  return [
    ...seen.semaphores.map((one) => ({ ...one, kind: "semaphore", state: `value ${one.value}` })),
    ...seen.events.map((one) => ({ ...one, kind: "event", state: one.is_set ? "set" : "not set" })),
    ...seen.conditions.map((one) => ({ ...one, kind: "condition", state: "-" })),
    ...seen.barriers.map((one) => ({
      ...one,
      kind: "barrier",
      state: one.is_broken ? "broken" : `${one.waiters.length} of ${one.parties}`,
    })),
    ...seen.collections.map((one) => ({ ...one, state: "-", waiters: [] })),
  ];
}
