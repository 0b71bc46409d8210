// The form below the selection: a format, and a button that downloads it.

import { exportMoments, resultAddress } from "./api.js";
import { trackJob } from "./jobs.js";
import { onClick, say } from "./notices.js";
import { html } from "./shared/timeline.js";

const FORMATS = [
  ["clips", "Clips (ZIP of MP4)"],
  ["mp4", "One reel (MP4)"],
  ["edl", "EDL"],
  ["otio", "OpenTimelineIO"],
  ["fcpxml", "FCPXML"],
  ["srt", "Subtitles (SRT)"],
  ["csv", "Table (CSV)"],
  ["json", "JSON"],
  ["custom", "Annotations for training (CSV)"],
];
const PADDED = ["clips", "mp4"]; // formats that can show more than the moment

let chosen = "clips"; // kept, since the form is made anew with each change of the selection
let padding = "0";

// Calls `list` for the moments only when they are exported.
export function exportForm(list) {
  const format = html("select", { id: "format" }, ...FORMATS.map(([value, name]) => html("option", { value }, name)));
  const pad = html("input", { id: "pad", type: "number", min: 0, max: 3600, step: "any" });
  const more = html("label", {}, "Seconds before and after ", pad);
  const button = html("button", { type: "button", id: "export", class: "strong" }, "Export");
  const show = () => {
    chosen = format.value;
    more.hidden = !PADDED.includes(chosen);
  };
  format.value = chosen;
  pad.value = padding;
  format.addEventListener("change", show);
  pad.addEventListener("change", () => (padding = pad.value));
  onClick(button, () => exportSelected(list(), format.value, Number(pad.value) || 0));
  show();
  return html("div", { class: "export" }, html("label", {}, "Format ", format), more, button);
}

async function exportSelected(items, format, pad) {
  const taken = format === "custom" ? items : items.filter((item) => item.start !== null);
  if (!taken.length) return say("Nothing to export: this format takes moments with times.");
  const moments = taken.map(({ video, query, start, end, score }) => ({ video, query, start, end, score: score ?? 1 }));
  const made = await exportMoments({ format, moments, pad: PADDED.includes(format) ? pad : 0 });
  if (made.job) {
    say("The export has started. The file is downloaded when it is done.");
    const done = ({ id, result }) => result && download(resultAddress(id), result);
    return trackJob(made.job, done);
  }
  const address = URL.createObjectURL(made.blob);
  download(address, made.name);
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`${made.name} is downloaded.`);
}

function download(address, name) {
  const link = html("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
