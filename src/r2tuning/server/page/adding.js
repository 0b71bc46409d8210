// Adding videos: files that are dropped or chosen are uploaded one after the other, paths are added by the server.

import { addPath, upload } from "./api.js";
import { addUpload, removeUpload, trackJob } from "./jobs.js";
import { complain, formatCount, formatSize, say } from "./notices.js";
import { html } from "./shared/timeline.js";

const BUSY = 3000; // milliseconds until a server that is busy is asked again

const drop = document.getElementById("drop");
const waiting = []; // uploads
let running = false;
let most = Infinity; // bytes of a file

// Says what may be added, as the library tells it.
export function showRoots({ roots, max_upload }) {
  most = max_upload;
  document.getElementById("by-path").hidden = !roots.length;
  const path = document.getElementById("path");
  path.placeholder = roots.length ? `${roots[0]}/2024` : "";
  const told = roots.length === 1 ? "It must be in this folder:" : "It must be in one of these folders:";
  const buttons = roots.flatMap((name) => [" ", pathButton(name)]);
  document.getElementById("roots").replaceChildren(told, ...buttons);
}

function pathButton(name) {
  const button = html("button", { type: "button", class: "small", dir: "auto" }, name);
  button.addEventListener("click", () => {
    document.getElementById("path").value = name;
    document.getElementById("path").focus();
  });
  return button;
}

// --- uploads

function addFiles(files) {
  if (!files.length) return say("There is no video in what was dropped.");
  for (const file of files) {
    const one = { file, stop: null };
    waiting.push(one);
    showUpload(one, "Waits for the uploads before it.");
  }
  say(`${formatCount(files.length, "file")} to upload.`);
  work();
}

// The row of an upload in the panel of jobs. `phase` is upload or failed; the row stays as long as that is the same.
function showUpload(one, text, { share = null, phase = "upload" } = {}) {
  if (one.phase !== phase) {
    if (one.row) removeUpload(one.row);
    Object.assign(one, makeUploadRow(one, phase), { phase });
    addUpload(one.row);
  }
  one.text.textContent = text;
  one.bar.hidden = share === null;
  if (share !== null) one.bar.value = share;
}

function makeUploadRow(one, phase) {
  const failed = phase === "failed";
  const { name } = one.file;
  const bar = html("progress", { "aria-label": `Upload ${name}`, max: 1 });
  const text = html("span", { class: failed ? "wrong" : "quiet", dir: "auto" });
  const button = (word, action) => {
    const made = html("button", { type: "button", class: "small", "aria-label": `${word}: ${name}` }, word);
    made.addEventListener("click", action);
    return made;
  };
  const close = button("Close", () => removeUpload(one.row));
  const row = html(
    "li",
    { class: failed ? "job failed" : "job running" },
    html("span", { class: "title", dir: "auto" }, name),
    html("span", { class: "state" }, phase),
    bar,
    text,
    ...(failed ? [button("Retry", () => again(one)), close] : [button("Cancel", () => cancel(one))])
  );
  return { row, bar, text };
}

function again(one) {
  waiting.push(one);
  showUpload(one, "Waits for the uploads before it.");
  work();
}

function cancel(one) {
  if (waiting.includes(one)) waiting.splice(waiting.indexOf(one), 1);
  one.stop?.abort();
  removeUpload(one.row);
}

async function work() {
  if (running) return;
  running = true;
  for (let one = waiting.shift(); one; one = waiting.shift()) await send(one);
  running = false;
}

async function send(one) {
  const { file } = one;
  if (file.size > most) {
    const text = `It has ${formatSize(file.size)}; the server takes ${formatSize(most)}.`;
    return showUpload(one, text, { phase: "failed" });
  }
  one.stop = new AbortController();
  let percent = -1;
  const progress = (share) => {
    const next = Math.floor(100 * share);
    if (next === percent || one.stop.signal.aborted) return;
    percent = next;
    showUpload(one, share < 1 ? `${next} % of ${formatSize(file.size)}` : "The server checks the file…", { share });
  };
  progress(0);
  try {
    const job = await upload(file, progress, one.stop.signal);
    removeUpload(one.row);
    trackJob(job);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 429) {
      showUpload(one, "The server is busy…");
      await new Promise((done) => setTimeout(done, BUSY));
      if (!one.stop.signal.aborted) waiting.unshift(one);
      return;
    }
    showUpload(one, error.message, { phase: "failed" });
  }
}

// --- drop

// Files of what was dropped; of folders, those that may be videos.
async function readDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = [];
  for (let entry = entries.shift(); entry !== undefined; entry = entries.shift()) {
    if (entry?.isDirectory) entries.push(...(await readFolder(entry)));
    else if (entry) found.push(await new Promise((done, fail) => entry.file(done, fail)));
  }
  const mayBe = ({ name, type }) => !name.startsWith(".") && (!type || type.startsWith("video/"));
  return found.filter(mayBe);
}

// Entries come in parts of about a hundred; an empty part is the last.
async function readFolder(entry) {
  const reader = entry.createReader();
  const all = [];
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return all;
    all.push(...part);
  }
}

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");

export function startAdding() {
  const files = document.getElementById("files");
  files.addEventListener("change", () => {
    addFiles([...files.files]);
    files.value = "";
  });
  document.getElementById("by-path").addEventListener("submit", async (event) => {
    event.preventDefault();
    const path = document.getElementById("path");
    const given = path.value.trim();
    if (!given) return;
    try {
      trackJob(await addPath(given));
      path.value = "";
      say("The videos are being added.");
    } catch (error) {
      complain(error);
    }
  });
  window.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  window.addEventListener("dragleave", (event) => event.relatedTarget ?? (drop.hidden = true));
  window.addEventListener("drop", async (event) => {
    drop.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    try {
      addFiles(await readDropped(event.dataTransfer));
    } catch (error) {
      complain(error);
    }
  });
  window.addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault(); // the browser asks whether to leave
  });
}
