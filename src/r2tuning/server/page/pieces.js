// Plays a video that the browser cannot play itself: the server makes short MP4 pieces, and MediaSource joins them.

import { getPiece } from "./api.js";

const AHEAD = 12; // seconds that are fetched before they are played
const KEPT = 30; // seconds around the playhead that stay where memory is short

// Makes `video` play the pieces of a plan from the API, and returns a function that ends this.
export function playPieces(video, id, { mime, pieces, start, duration }, fail) {
  const Source = window.MediaSource ?? window.ManagedMediaSource;
  if (!Source?.isTypeSupported(mime)) {
    fail(new Error("This browser does not play the preview either. Use a recent Chrome, Edge, Firefox or Safari."));
    return () => {};
  }
  const closing = new AbortController();
  const { signal } = closing;
  const source = new Source();
  const address = URL.createObjectURL(source);
  const useless = new Set(); // pieces of which nothing can be shown
  const endOf = (number) => pieces[number + 1] ?? start + duration;
  let buffer = null;
  let busy = false;

  const isThere = (number) => {
    const middle = (pieces[number] + endOf(number)) / 2;
    const ranges = [...Array(buffer.buffered.length).keys()];
    return ranges.some((i) => buffer.buffered.start(i) <= middle && middle <= buffer.buffered.end(i));
  };

  // The first piece that is needed and not there.
  const findNext = () => {
    const time = video.currentTime;
    const first = Math.max(0, pieces.findLastIndex((begin) => begin <= time + 0.001));
    for (let number = first; number < pieces.length && pieces[number] <= time + AHEAD; number++) {
      if (!useless.has(number) && !isThere(number)) return number;
    }
    return null;
  };

  const settle = () =>
    new Promise((done, failed) => {
      buffer.addEventListener("updateend", done, { once: true });
      const fail = () => failed(new Error("The browser cannot decode the preview."));
      buffer.addEventListener("error", fail, { once: true });
    });

  const forgetFar = async () => {
    const time = video.currentTime;
    for (const [from, to] of [[0, time - KEPT], [time + KEPT, Infinity]]) {
      if (to <= from) continue;
      buffer.remove(from, to);
      await settle();
    }
  };

  const append = async (number, bytes) => {
    try {
      buffer.appendBuffer(bytes);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
      await forgetFar();
      buffer.appendBuffer(bytes);
    }
    await settle();
    if (!isThere(number)) useless.add(number);
    // An earlier piece opens the source again; pictures that wait for later ones are only shown at its end.
    const last = pieces.length - 1;
    if ((useless.has(last) || isThere(last)) && source.readyState === "open") source.endOfStream();
  };

  const feed = async () => {
    if (busy || !buffer || signal.aborted) return;
    busy = true;
    try {
      for (let next = findNext(); next !== null; next = findNext()) {
        const bytes = await getPiece(id, next, { signal }).catch((error) => {
          if (error.name === "AbortError") throw error;
          useless.add(next);
          fail(error);
        });
        if (bytes && !signal.aborted) await append(next, bytes);
      }
    } catch (error) {
      if (!signal.aborted) fail(error);
    } finally {
      busy = false;
    }
  };

  const open = () => {
    URL.revokeObjectURL(address);
    source.duration = start + duration;
    buffer = source.addSourceBuffer(mime);
    if (video.currentTime < start) video.currentTime = start;
    feed();
  };
  source.addEventListener("sourceopen", open, { once: true });
  for (const event of ["seeking", "timeupdate", "waiting"]) video.addEventListener(event, feed, { signal });
  video.disableRemotePlayback = true; // Safari has no such source otherwise
  video.src = address;
  return () => closing.abort();
}
