// What was seen in the last minutes, rates that follow from it, and deaths.

import { bytes, element, number, shape, time, write } from "./format.js";

/** Milliseconds that are kept, and the least between two samples. */
const WINDOW = 300_000;
const SPACING = 500;
/** With more time lines than this, samples are further apart, so the number of all points is bounded. */
const MOST_SERIES = 500;
/** The least milliseconds between two looks from which rates follow. */
const SPAN = 1000;
const MOST_DEATHS = 500;

/** Counts that only grow. */
function countsOf(seen) {
  const objects = new Map();
  for (const queue of seen.queues)
    objects.set(queue.id, { inward: queue.put, outward: Math.max(0, queue.put - queue.depth) });
  for (const pool of seen.pools)
    objects.set(pool.id, { outward: pool.done, busy: pool.workers.reduce((sum, worker) => sum + worker.busy_ms, 0) });
  return { at: seen.taken_ms, objects, cpu: new Map(seen.processes.map((process) => [process.pid, process.cpu_ms])) };
}

export class History {
  series = new Map();
  deaths = [];
  #counts = [];
  #sampled = -Infinity;
  #alive;
  #endedBefore = new Set();

  /** Enter a look. Returns the rates since one about a second before. */
  add(seen) {
    const counts = countsOf(seen);
    while (this.#counts.length > 1 && this.#counts[1].at <= counts.at - SPAN) this.#counts.shift();
    const before = this.#counts[0];
    const rates = before && before.at < counts.at ? ratesOf(before, counts) : { objects: new Map(), cpu: new Map() };
    this.#counts.push(counts);
    this.#notice(seen);
    if (seen.taken_ms - this.#sampled >= SPACING * Math.max(1, this.series.size / MOST_SERIES)) {
      this.#sampled = seen.taken_ms;
      this.#sample(seen, rates);
    }
    return rates;
  }

  /** Whether some time line of an object shows anything but nothing. */
  hasMoved(object) {
    const names = ["items", "in", "out", "queued", "done"].map((what) => `${object} ${what}`);
    return names.some((name) => this.series.get(name)?.some((point) => point[1] > 0));
  }

  #sample(seen, rates) {
    const at = seen.taken_ms;
    const put = (name, value) => {
      if (value === undefined || value === null) return;
      const series = this.series.get(name) ?? [];
      series.push([at, value]);
      this.series.set(name, series);
    };
    put("memory", seen.committed_bytes);
    put(
      "private",
      seen.processes.reduce((sum, process) => sum + process.private_bytes, 0),
    );
    if (rates.cpu.size)
      put(
        "cpu",
        [...rates.cpu.values()].reduce((sum, share) => sum + share, 0),
      );
    for (const queue of seen.queues) {
      const flow = rates.objects.get(queue.id);
      put(`queue ${queue.id} items`, queue.depth);
      put(`queue ${queue.id} in`, flow?.inward);
      put(`queue ${queue.id} out`, flow?.outward);
    }
    for (const pool of seen.pools) {
      const flow = rates.objects.get(pool.id);
      put(`pool ${pool.id} queued`, pool.queued);
      put(`pool ${pool.id} done`, flow?.outward);
      put(`pool ${pool.id} time`, flow?.mean);
    }
    for (const process of seen.processes) {
      put(`process ${process.pid} private`, process.private_bytes);
      put(`process ${process.pid} cpu`, rates.cpu.get(process.pid));
    }
    for (const [name, series] of this.series) {
      while (series.length && series[0][0] < at - WINDOW) series.shift();
      if (!series.length) this.series.delete(name);
    }
  }

  /** Note which processes have ended: those that say so, and those that are not there any more. */
  #notice(seen) {
    const isFirst = this.#alive === undefined;
    const when = isFirst ? "before this page was opened" : new Date().toLocaleTimeString();
    const there = new Map(
      seen.processes
        .filter((process) => process.pid && process.state !== "dead")
        .map((process) => [process.pid, process.name]),
    );
    const ended = new Map(seen.ended.map((one) => [one.pid, one]));
    const enter = (pid, name, code) => {
      const isNoted = code !== null && code !== undefined;
      const how = isNoted
        ? code === 0
          ? "ended"
          : `exit code ${code}`
        : code === null
          ? "killed, or ended without noting its exit code"
          : "gone; its exit code was not seen";
      const isBad = code !== 0;
      // Its exit code may be told by a later look than the one in which it is gone.
      const earlier = this.deaths.find((one) => one.pid === pid && one.name === name && one.code === undefined);
      if (earlier && code !== undefined) {
        Object.assign(earlier, { how, isBad, code });
        return;
      }
      this.deaths.unshift({ number: (this.deaths[0]?.number ?? 0) + 1, pid, name, how, when, isBad, code });
      this.deaths.length = Math.min(this.deaths.length, MOST_DEATHS);
    };
    for (const [pid, one] of ended) {
      // A process that was seen is entered once it is gone from the list.
      if (!this.#endedBefore.has(`${pid} ${one.name}`) && !this.#alive?.has(pid)) enter(pid, one.name, one.exit_code);
    }
    for (const [pid, name] of this.#alive ?? []) {
      if (there.has(pid)) continue;
      // Beyond a bound not all processes are told.
      if (ended.has(pid) || !seen.beyond.processes) enter(pid, name, ended.get(pid)?.exit_code);
    }
    this.#endedBefore = new Set(seen.ended.map((one) => `${one.pid} ${one.name}`));
    this.#alive = there;
  }
}

function ratesOf(before, now) {
  const seconds = (now.at - before.at) / 1000;
  const objects = new Map();
  for (const [id, counts] of now.objects) {
    const earlier = before.objects.get(id);
    if (!earlier) continue;
    const grown = (name) => Math.max(0, counts[name] - earlier[name]);
    const done = grown("outward");
    objects.set(id, {
      inward: counts.inward === undefined ? undefined : grown("inward") / seconds,
      outward: done / seconds,
      mean: counts.busy === undefined || !done ? undefined : grown("busy") / done,
    });
  }
  const cpu = new Map();
  for (const [pid, ms] of now.cpu)
    if (before.cpu.has(pid)) cpu.set(pid, Math.max(0, ms - before.cpu.get(pid)) / seconds / 10);
  return { objects, cpu };
}

const WIDTH = 300;
const HEIGHT = 72;

/** A time line. `lines`: names of series, and what each is called. */
export class Chart {
  constructor(title, lines, text) {
    Object.assign(this, { title, lines, text });
    this.caption = element("figcaption");
    this.paths = lines.map((_, at) => shape("polyline", { class: `line line${at}`, points: "" }));
    this.svg = shape(
      "svg",
      { role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-label": title },
      shape("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1 }),
      ...this.paths,
    );
    this.since = element("span");
    this.most = element("span");
    this.now = lines.map((_, at) => element("span", { class: `key key${at}` }));
    this.caption.append(element("strong", {}, title), " ", ...this.now.flatMap((node) => [node, " "]));
    this.node = element(
      "figure",
      { class: "chart" },
      this.caption,
      this.svg,
      element("div", { class: "scale", "aria-hidden": "true" }, this.since, this.most, element("span", {}, "now")),
    );
  }

  update(history) {
    const series = this.lines.map(([name]) => history.series.get(name) ?? []);
    const points = series.flat();
    const last = Math.max(...points.map((point) => point[0]), 0);
    const first = Math.min(...points.map((point) => point[0]), last - 10_000);
    const most = Math.max(...points.map((point) => point[1]), 0);
    series.forEach((line, at) => {
      const drawn = line.map(([when, value]) => {
        const x = ((when - first) / (last - first)) * WIDTH;
        const y = HEIGHT - 2 - (most ? value / most : 0) * (HEIGHT - 6);
        return `${x.toFixed(1)},${y.toFixed(1)}`;
      });
      this.paths[at].setAttribute("points", drawn.join(" "));
      const value = line.length ? this.text(line[line.length - 1][1]) : "-";
      write(this.now[at], this.lines[at][1] ? `${this.lines[at][1]} ${value}` : value);
    });
    write(this.since, points.length ? `${time(last - first)} ago` : "");
    write(this.most, points.length ? `at most ${this.text(most)}` : "");
    const now = this.now.map((node) => node.textContent).join(", ");
    const span = time(last - first);
    this.svg.setAttribute("aria-label", `${this.title}: ${now}, at most ${this.text(most)} in ${span}`);
  }
}

const perSecond = (value) => `${number(value)}/s`;

export const charts = {
  family: () => [
    new Chart(
      "Memory",
      [
        ["private", "private"],
        ["memory", "shared"],
      ],
      bytes,
    ),
    new Chart("Processor", [["cpu", ""]], (value) => `${value.toFixed(0)}%`),
  ],
  queue: (id) => [
    new Chart(`Queue ${id}`, [[`queue ${id} items`, ""]], (value) => `${number(value)} items`),
    new Chart(
      `Queue ${id}, items per second`,
      [
        [`queue ${id} in`, "in"],
        [`queue ${id} out`, "out"],
      ],
      perSecond,
    ),
  ],
  pool: (id) => [
    new Chart(`Pool ${id}, tasks per second`, [[`pool ${id} done`, ""]], perSecond),
    new Chart(`Pool ${id}, tasks queued`, [[`pool ${id} queued`, ""]], number),
    new Chart(`Pool ${id}, task time`, [[`pool ${id} time`, ""]], time),
  ],
  process: (pid) => [
    new Chart("Processor", [[`process ${pid} cpu`, ""]], (value) => `${value.toFixed(0)}%`),
    new Chart("Private memory", [[`process ${pid} private`, ""]], bytes),
  ],
};
