// The panel of jobs: how far they are, what failed, cancel, try again, and what they made.
//
// A browser opens few connections to a server, for all tabs together. So only one job is followed by events, and only
// by the tab that is seen; the others are asked for, and this one too where events do not arrive.

import { cancelJob, followJob, listJobs, resultAddress, retryJob } from "./api.js";
import { complain, formatCount, onClick, say } from "./notices.js";
import { html } from "./shared/timeline.js";

const BUSY = 1500; // milliseconds between two looks while a job goes on
const IDLE = 10_000;
const HIDDEN = 30_000; // in a tab that is not seen
const KEPT = 5; // jobs that ended are listed

const panel = document.getElementById("job-list");
const opener = document.getElementById("to-jobs");
const NAMES = { add: "Add", rescan: "Rescan", remove: "Remove", export: "Export", summary: "Summary of" };
const RUNNING = ["queued", "running"];

const known = new Map(); // by id, newest first
const tracked = new Map(); // what this tab does once a job that it started has succeeded
const uploads = new Set(); // rows of what is being uploaded, see adding.js
const watchers = []; // called when a job has ended
const asked = new Set(); // jobs whose cancelling was asked for
let stream = null;
let streamed = "";
let eventsFail = false;
let timer = 0;

const nameJob = ({ kind, subject }) => `${NAMES[kind]} ${subject}`.trim();
const isActive = (job) => RUNNING.includes(job.state);

// Calls a function with each job that ends from now on.
export const onEnd = (watcher) => watchers.push(watcher);

// Shows a job that this tab started; `done` is called once it has succeeded.
export function trackJob(job, done = () => {}) {
  tracked.set(job.id, done);
  take([job, ...known.values()]);
  plan(0);
}

export function addUpload(row) {
  uploads.add(row);
  show();
}

export function removeUpload(row) {
  uploads.delete(row);
  show();
}

export function startJobs() {
  opener.addEventListener("click", () => document.getElementById("jobs-title").focus());
  document.addEventListener("visibilitychange", () => (document.hidden ? follow() : plan(0)));
  return look();
}

function plan(delay) {
  clearTimeout(timer);
  timer = setTimeout(look, delay);
}

async function look() {
  try {
    take((await listJobs()).jobs);
  } catch (error) {
    if (error.status !== 401 && [...known.values()].some(isActive)) complain(error);
  }
  plan(document.hidden ? HIDDEN : [...known.values()].some(isActive) ? BUSY : IDLE);
}

// Takes the jobs as the server has them, newest first.
function take(jobs) {
  const before = new Map(known);
  known.clear();
  for (const job of jobs) if (!known.has(job.id)) known.set(job.id, job);
  for (const id of rows.keys()) if (!known.has(id)) rows.delete(id);
  for (const job of known.values()) {
    const was = before.get(job.id);
    if (isActive(job) || (was ? !isActive(was) : !tracked.has(job.id))) continue;
    finish(job);
  }
  follow();
  show();
}

function finish(job) {
  asked.delete(job.id);
  const done = tracked.get(job.id);
  tracked.set(job.id, null);
  say(`${nameJob(job)}: ${job.state}.`);
  if (job.state === "done") done?.(job);
  for (const watcher of watchers) watcher(job);
}

// Follows the job that runs longest, or nothing in a tab that is not seen.
function follow() {
  const running = [...known.values()].filter((job) => job.state === "running").at(-1);
  const wanted = running && !document.hidden && !eventsFail ? running.id : "";
  if (wanted === streamed) return;
  stream?.close();
  [stream, streamed] = [wanted ? followJob(wanted) : null, wanted];
  if (!stream) return;
  const update = (event) => {
    const job = JSON.parse(event.data);
    take([...known.values()].map((other) => (other.id === job.id ? job : other)));
  };
  stream.addEventListener("job", update);
  stream.addEventListener("end", (event) => (update(event), plan(0)));
  stream.addEventListener("error", () => {
    eventsFail = true;
    follow();
  });
}

// --- panel

const rows = new Map(); // what is shown of a job, by its id
const list = html("ul", { class: "rows" });
const nothing = html("p", { class: "quiet" }, "Nothing to do.");
panel.append(list, nothing);

function show() {
  const jobs = [...known.values()];
  const active = jobs.filter(isActive);
  const ended = jobs.filter((job) => !isActive(job)).slice(0, KEPT);
  const count = active.length + uploads.size;
  opener.textContent = count ? `Jobs (${count})` : "Jobs";
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.name : "";
  const open = new Set([...list.querySelectorAll("details[open]")].map((details) => details.dataset.name));
  const wanted = [...uploads, ...[...active, ...ended].map(findRow)];
  nothing.hidden = wanted.length > 0;
  // A button that is replaced while it is pressed is never clicked.
  if (wanted.length === list.children.length && wanted.every((row, i) => row === list.children[i])) return;
  list.replaceChildren(...wanted);
  for (const details of list.querySelectorAll("details")) details.open = open.has(details.dataset.name);
  if (focused) list.querySelector(`[data-name="${focused}"]`)?.focus();
}

// The row of a job: the one that is there, as long as the job can be told by it.
function findRow(job) {
  const shape = JSON.stringify([isActive(job) || job.state, job.error, job.result, asked.has(job.id)]);
  let shown = rows.get(job.id);
  if (shown?.shape !== shape) {
    shown = { shape, ...showJob(job) };
    rows.set(job.id, shown);
  }
  shown.update(job);
  return shown.row;
}

function showJob(job) {
  const name = nameJob(job);
  const bar = html("progress", { "aria-label": name, max: 1 });
  const state = html("span", { class: "state" });
  const text = html("span", { class: "quiet" });
  const count = html("summary", { "data-name": `count-${job.id}` });
  const reasons = html("ul", {});
  const failures = html("details", { "data-name": `files-${job.id}`, hidden: "" }, count, reasons);
  const error = job.error ? [html("span", { class: "wrong", dir: "auto" }, job.error)] : [];
  const title = html("span", { class: "title", dir: "auto" }, name);
  const row = html("li", {}, title, state, bar, text, ...error, failures, ...showActions(job, name));
  const update = (next) => {
    const { progress } = next;
    row.className = `job ${next.state}`;
    state.textContent = asked.has(job.id) ? "is being cancelled" : next.state;
    text.textContent = describeProgress(next);
    bar.hidden = next.state !== "running";
    if (progress.expected) bar.value = progress.done / progress.expected;
    if (progress.failures.length === reasons.children.length) return;
    failures.hidden = !progress.failures.length;
    count.textContent = `${formatCount(progress.failures.length, "file")} could not be used`;
    reasons.replaceChildren(...progress.failures.map(({ reason }) => html("li", { dir: "auto" }, reason)));
  };
  return { row, update };
}

function describeProgress({ progress, state }) {
  if (state === "queued") return "Waits for the jobs before it.";
  const { done, expected, unit, eta } = progress;
  if (expected === null) return state === "running" ? "Looking for what is to do…" : "";
  const left = state === "running" && eta ? `, about ${Math.max(1, Math.round(eta))} s left` : "";
  return `${done} of ${expected} ${unit}${left}`;
}

function showActions(job, name) {
  const make = (word, action) => {
    const button = html("button", { type: "button", class: "small", "data-name": `${word}-${job.id}` }, word);
    button.setAttribute("aria-label", `${word}: ${name}`);
    onClick(button, action);
    return button;
  };
  if (isActive(job)) return asked.has(job.id) ? [] : [make("Cancel", () => change(job, cancelJob))];
  if (job.result) return [html("a", { href: resultAddress(job.id), download: job.result }, `Download ${job.result}`)];
  return job.state === "done" ? [] : [make("Retry", () => change(job, retryJob))];
}

async function change(job, action) {
  if (action === cancelJob) asked.add(job.id);
  else tracked.set(job.id, tracked.get(job.id) ?? null);
  take([...known.values()].map((other) => (other.id === job.id ? { ...other } : other)));
  try {
    const next = await action(job.id);
    take([...known.values()].map((other) => (other.id === job.id ? next : other)));
  } catch (error) {
    asked.delete(job.id);
    throw error;
  } finally {
    plan(0);
  }
}
