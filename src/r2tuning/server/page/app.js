// Starts the page, and shows what its address says.

import { showRoots, startAdding } from "./adding.js";
import { openSession, readLibrary } from "./api.js";
import { forgetHits, showHits } from "./hits.js";
import { onEnd, startJobs } from "./jobs.js";
import { startKeyboard } from "./keyboard.js";
import { complain, forgive, formatCount, formatDuration } from "./notices.js";
import { pauseVideo } from "./player.js";
import { formatRoute, parseRoute } from "./routes.js";
import { showSearch, startSearch } from "./search.js";
import { openSelection } from "./selection.js";
import { showVideos, startVideos } from "./videos.js";
import { showVideo, startWatch } from "./watch.js";

const LOADING = 1000; // milliseconds after which a model that is being loaded is asked for again
const VIEWS = ["results", "watch", "list", "adding", "locked"];

const part = (name) => document.getElementById(name);
let library = null;
let searched = "#/search"; // the last search, to go back to
let opened = null; // the link of the hit that was opened last
let view = "";

function show(...names) {
  for (const name of VIEWS) part(name).hidden = !names.includes(name);
}

function route(again = false) {
  const next = parseRoute(location.hash);
  forgive();
  showSearch(next);
  if (next.view !== "video" && view === "video") pauseVideo();
  const back = view === "video" && next.view === "search";
  view = next.view;
  part("to-videos").setAttribute("aria-current", view === "videos" ? "page" : "false");
  const about = view === "videos" ? "Videos" : next.queries.join(", ");
  document.title = about ? `${about} – ${library.name}` : library.name;
  if (view === "video") {
    show("watch");
    return showVideo(next, searched);
  }
  if (view === "videos") {
    show("adding", "list");
    return showVideos();
  }
  searched = formatRoute(next);
  if (!library.files && !next.queries.length) return show("adding");
  show("results");
  const shown = showHits(next, again);
  if (back && opened?.isConnected) opened.focus();
  return shown;
}

async function readAgain() {
  const before = library?.changes;
  try {
    library = await readLibrary();
  } catch (error) {
    if (error.status !== 401) complain(error, readAgain);
    return false;
  }
  part("home").textContent = library.name;
  part("facts").textContent = describeLibrary();
  showRoots(library);
  if (!library.ready) setTimeout(readAgain, LOADING);
  return library.changes !== before;
}

function describeLibrary() {
  if (!library.files) return "No videos yet";
  const facts = [formatCount(library.videos, "video"), formatDuration(library.seconds), `model ${library.model}`];
  if (library.failed) facts.push(`${library.failed} failed`);
  if (library.missing) facts.push(`${library.missing} not there`);
  if (!library.ready) facts.push("the model is being loaded");
  return facts.join(", ");
}

// The library may have changed with a job.
async function refresh(job) {
  if (job.kind === "export" || job.kind === "summary" || !(await readAgain())) return;
  forgetHits();
  if (view === "videos") showVideos();
  else if (view === "search" && (!part("adding").hidden || !part("results").querySelector(".found"))) route();
}

async function start() {
  document.addEventListener("locked", () => show("locked"));
  startKeyboard();
  startSearch(() => route(true));
  startAdding();
  startVideos();
  startWatch();
  try {
    await openSession();
  } catch (error) {
    if (error.status !== 401) complain(error);
  }
  await readAgain();
  if (!library) return;
  openSelection(library.name);
  window.addEventListener("hashchange", () => route());
  part("results").addEventListener("click", (event) => {
    opened = event.target.closest("a.open") ?? opened;
  });
  onEnd(refresh);
  startJobs();
  route();
}

start();
