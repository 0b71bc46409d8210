// The chosen moment below the player: its times as numbers, and what can be done with it.

import { say } from "./notices.js";
import { playSpan } from "./player.js";
import { go, round } from "./routes.js";
import { isCorrected, isSelected, onSelection, select, toggle } from "./selection.js";
import { html } from "./shared/timeline.js";

const panel = document.getElementById("chosen");

export const hideChosen = () => (panel.hidden = true);

// Shows a moment between two times; `redraw` is called when it was changed here.
export function showChosen(moment, { title, start, end }, redraw) {
  const input = (side, label) => {
    const box = html("input", { type: "number", step: 0.1, min: round(start), max: round(end), id: `chosen-${side}` });
    box.value = moment[side];
    box.addEventListener("change", () => correct(side, box));
    return html("label", {}, `${label} `, box);
  };
  const correct = (side, box) => {
    const next = { ...moment, [side]: round(Number(box.value)) };
    if (!box.value || next.start < start || next.end > end + 0.001 || next.start >= next.end) {
      box.value = moment[side];
      return say(`The ${side} must lie in the video, and the start before the end.`);
    }
    moment[side] = next[side];
    redraw();
  };
  const button = (name, action) => {
    const made = html("button", { type: "button" }, name);
    made.addEventListener("click", action);
    return made;
  };
  const pick = button("", () => toggle(moment));
  pick.id = "chosen-pick";
  const restore = button("Restore", () => {
    Object.assign(moment, moment.from);
    redraw();
  });
  restore.hidden = !moment.from || !isCorrected(moment);
  const like = button("More like this", () => go({ view: "search", like: { ...moment } }));
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : "";
  const buttons = [button("Play", () => playSpan(moment)), pick, like, restore];
  const unit = html("span", { class: "quiet" }, "seconds");
  const marks = isCorrected(moment) ? [html("span", { class: "mark" }, moment.from ? "corrected" : "added")] : [];
  panel.replaceChildren(
    html("p", { class: "title", dir: "auto" }, title, ...marks),
    html("div", { class: "together" }, input("start", "Start"), input("end", "End"), unit, ...buttons)
  );
  onSelection(pick, () => (pick.textContent = isSelected(moment) ? "Remove from selection" : "Add to selection"));
  panel.hidden = false;
  if (focused) document.getElementById(focused)?.focus();
}

// Keeps a corrected moment: in the selection, where it stays when the page is closed.
export function keepCorrection(moment) {
  const known = isSelected(moment);
  select(moment);
  if (!known) say("Corrected, and added to the selection.");
}
