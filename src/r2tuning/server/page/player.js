// The player: shows one video, goes to times, and tells others where it is.

import { mediaAddress, planPlayback } from "./api.js";
import { playPieces } from "./pieces.js";

const NEAR = 0.05; // seconds

const video = document.getElementById("video");
const note = document.getElementById("played");
const followers = new Set();
let shown = "";
let wanted = null; // where the player must go as soon as it can
let last = Infinity; // where it pauses
let stop = () => {};

// Calls a function with the time that is shown, whenever it changes.
export const onTime = (follow) => followers.add(follow);
export const currentTime = () => wanted ?? video.currentTime;

function update() {
  const time = currentTime();
  for (const follow of followers) follow(time);
}

function animate() {
  if (video.currentTime >= last) {
    video.pause();
    last = Infinity;
  }
  update();
  if (!video.paused && !video.ended) requestAnimationFrame(animate);
}

function tell(text, strong = false) {
  note.textContent = text;
  note.hidden = !text;
  note.classList.toggle("trouble", strong);
}

const tellTrouble = () =>
  tell("This browser does not show the video: it lacks the codec. Timelines and times are still right.", true);

// Shows a video at a time; what was shown before stops.
export async function openVideo(id, time, signal) {
  closeVideo();
  wanted = time;
  const plan = await planPlayback(id, { signal });
  shown = id;
  if (plan.mode === "native") {
    video.src = mediaAddress(id);
  } else {
    const how = plan.mode === "remux" ? "without loss, in another container," : "as a preview, in lower quality,";
    tell(`Played ${how} because ${plan.reason}. Exports use the file itself.`);
    stop = playPieces(video, id, plan, (error) => tell(error.message, true));
  }
  seek(time);
}

function closeVideo() {
  stop();
  stop = () => {};
  shown = "";
  wanted = null;
  last = Infinity;
  tell("");
  video.removeAttribute("src");
  video.load();
}

export const pauseVideo = () => video.pause();

export function seek(time) {
  wanted = time;
  last = Infinity;
  if (shown) video.currentTime = time;
  update();
}

export function playOrPause() {
  last = Infinity;
  if (video.paused) video.play().catch(() => {}); // refused where nothing can be played, which the note tells
  else video.pause();
}

export function playSpan({ start, end }) {
  seek(start);
  last = end;
  video.play().catch(() => {});
}

// Of a file that starts late, Chromium learns the true length only as it reads on, and stops short until then.
video.addEventListener("seeked", () => {
  if (wanted !== null && (Math.abs(video.currentTime - wanted) < NEAR || wanted <= video.duration)) wanted = null;
});
video.addEventListener("durationchange", () => {
  if (wanted !== null && video.currentTime !== wanted) video.currentTime = wanted;
});
video.addEventListener("pointerdown", () => ([wanted, last] = [null, Infinity])); // of its controls
video.addEventListener("keydown", () => ([wanted, last] = [null, Infinity]));
video.addEventListener("play", animate);
video.addEventListener("error", () => shown && video.getAttribute("src") && tellTrouble());
video.addEventListener("loadedmetadata", () => video.videoWidth || tellTrouble()); // only the sound is playable
for (const event of ["seeking", "timeupdate", "loadedmetadata"]) video.addEventListener(event, update);
