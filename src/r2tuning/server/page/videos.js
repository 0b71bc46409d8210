// The list of the library's files: what became of them, remove, rescan.

import { listVideos, removeVideo, rescan } from "./api.js";
import { trackJob } from "./jobs.js";
import { complain, formatCount, formatSize, onClick, say } from "./notices.js";
import { formatRoute } from "./routes.js";
import { formatClock, html } from "./shared/timeline.js";

const TYPING = 250; // milliseconds after the last letter

const list = document.getElementById("files-list");
const more = document.getElementById("more-files");
const filter = document.getElementById("name-filter");
const STATES = { ready: "", missing: "not there at the moment", failed: "failed", waiting: "needs a rescan" };
let next = "";
let current = new AbortController();
let timer = 0;

// Lists the first page of the files again.
export async function showVideos() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  try {
    const page = await listVideos(filter.value.trim(), "", { signal });
    list.replaceChildren();
    append(page);
  } catch (error) {
    complain(error, showVideos);
  }
}

function append(page) {
  list.append(...page.videos.map(showVideo));
  next = page.next;
  more.hidden = !next;
  document.getElementById("list-facts").textContent = formatCount(page.total, "file");
}

function showVideo(video) {
  const length = video.duration === null ? "" : formatClock(video.duration, 0);
  const facts = [length, formatSize(video.size), STATES[video.state]];
  if (video.damaged) facts.push("parts are damaged");
  if (video.copies.length) facts.push(formatCount(video.copies.length, "copy").replace("copys", "copies"));
  const remove = html("button", { type: "button", class: "small", "aria-label": `Remove ${video.name}` }, "Remove");
  onClick(remove, () => askToRemove(video));
  const name = html("span", { class: "name", dir: "auto" }, video.name);
  const ready = video.state === "ready";
  return html(
    "li",
    { class: video.state },
    ready ? html("a", { href: formatRoute({ view: "video", id: video.id }) }, name) : name,
    html("span", { class: "quiet" }, facts.filter(Boolean).join(", ")),
    ...(video.reason ? [html("span", { class: "wrong", dir: "auto" }, video.reason)] : []),
    remove
  );
}

async function askToRemove(video) {
  const dialog = document.getElementById("sure");
  document.getElementById("sure-text").textContent =
    `Remove ${video.name} from the library? The file itself stays, unless it was uploaded here: then it is deleted. ` +
    "A file of a folder that was added comes back with the next rescan.";
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "yes") return;
  trackJob(await removeVideo(video.id));
  say("The video is being removed.");
}

export function startVideos() {
  filter.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(showVideos, TYPING);
  });
  onClick(more, async () => append(await listVideos(filter.value.trim(), next)));
  onClick(document.getElementById("rescan"), async () => {
    trackJob(await rescan());
    say("The library is looked through again.");
  });
}
