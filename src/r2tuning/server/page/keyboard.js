// Keys that work wherever nothing is being typed.

import { moveToHit, pickFocused } from "./hits.js";
import { playOrPause } from "./player.js";
import { focusSearch } from "./search.js";
import { html } from "./shared/timeline.js";

const KEYS = [
  ["/", "Go to the search box"],
  ["j, k, ↓, ↑", "Next hit, hit before"],
  ["Enter", "Open the hit, choose the moment"],
  ["s", "Add the hit to the selection"],
  ["Space", "Play or pause"],
  ["← →", "Next moment on a timeline; on an edge, move it by 0.1 s, with Shift by 1 s"],
  ["Esc", "Leave the video, or what is being typed"],
  ["?", "Show this list"],
];
const STEPS = { j: 1, ArrowDown: 1, ArrowRight: 1, k: -1, ArrowUp: -1, ArrowLeft: -1 };
const TYPED = 'input:not([type="file"]), select, textarea, dialog, [contenteditable]';
const OPERATED = "button, summary, a, video, [role=button], [role=slider]"; // Space does something there

const keys = document.getElementById("keys");
const isShown = (id) => !document.getElementById(id).hidden;

function handle(event) {
  const { key, target } = event;
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return false;
  if (target.closest?.(TYPED)) {
    if (key === "Escape" && !target.closest("dialog")) target.blur();
    return false;
  }
  if (key === "/") return focusSearch() ?? true;
  if (key === "?") return keys.showModal() ?? true;
  if (isShown("results")) {
    if (key in STEPS && !target.closest?.("summary, aside")) return moveToHit(STEPS[key]);
    if (key === "s") return pickFocused() ?? true;
  }
  if (!isShown("watch")) return false;
  if (key === " " && !target.closest?.(OPERATED)) return playOrPause() ?? true;
  if (key === "Escape") return document.getElementById("back").click() ?? true;
  return false;
}

export function startKeyboard() {
  document.getElementById("key-list").append(
    ...KEYS.flatMap(([key, text]) => [html("dt", {}, html("kbd", {}, key)), html("dd", {}, text)])
  );
  document.getElementById("to-keys").addEventListener("click", () => keys.showModal());
  document.addEventListener("keydown", (event) => handle(event) && event.preventDefault());
}
