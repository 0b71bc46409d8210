// The only module that talks to the server. Every call either gives what the API answers or throws a Problem.

const API = "/api/v1";
const TRIES = 4; // of a request that the server is too busy for
const MARK = { "X-R2Tuning": "1" }; // no form of another site can send it

// What went wrong, in the server's words.
export class Problem extends Error {
  constructor(status, detail, wait = 0) {
    super(detail);
    this.status = status;
    this.wait = wait;
  }
}

const lost = () => new Problem(0, "The server does not answer. Check that r2tuning serve still runs.");

function readProblem(status, text, retryAfter) {
  let detail = "";
  try {
    detail = JSON.parse(text).detail;
  } catch {
    // a proxy in between answered
  }
  if (status === 401) document.dispatchEvent(new Event("locked"));
  return new Problem(status, detail || `The server answered ${status}. Its log may say why.`, Number(retryAfter) || 0);
}

const pause = (seconds, signal) =>
  new Promise((done, fail) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), fail(signal.reason)), { once: true });
  });

async function send(method, path, { body, headers, signal } = {}) {
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  const asked = { method, signal, headers: { ...MARK, ...kind, ...headers } };
  if (body !== undefined) asked.body = JSON.stringify(body);
  for (let left = TRIES; ; left--) {
    let response;
    try {
      response = await fetch(`${API}/${path}`, asked);
    } catch (error) {
      throw error.name === "AbortError" ? error : lost();
    }
    if (response.ok) return response;
    const problem = readProblem(response.status, await response.text(), response.headers.get("Retry-After"));
    if (problem.status !== 429 || left === 1) throw problem;
    await pause(problem.wait || 1, signal);
  }
}

const get = async (path, options) => (await send("GET", path, options)).json();
const post = async (path, body, options) => (await send("POST", path, { body, ...options })).json();

// Exchanges the token of the address for a cookie; the address then no longer shows it.
export async function openSession() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname);
  await send("POST", "session", { headers: { Authorization: `Bearer ${token}` } });
}

export const readLibrary = () => get("library");
export const readVideo = (id, options) => get(`videos/${id}`, options);
export const listVideos = (name, after, options) => get(`videos?${new URLSearchParams({ name, after })}`, options);
export const addPath = (path) => post("videos", { path });
export const removeVideo = async (id) => (await send("DELETE", `videos/${id}`)).json();
export const rescan = () => post("rescan");

export const search = (asked, options) => post("search", asked, options);
export const ground = (id, queries, options) => post(`videos/${id}/ground`, { queries, top: 10 }, options);

export const listJobs = () => get("jobs?limit=50");
export const cancelJob = (id) => post(`jobs/${id}/cancel`);
export const retryJob = (id) => post(`jobs/${id}/retry`);
export const followJob = (id) => new EventSource(`${API}/jobs/${id}/events`);
export const resultAddress = (id) => `${API}/jobs/${id}/result`;

export const thumbnailAddress = (id, time) => `${API}/videos/${id}/thumbnail?time=${time.toFixed(2)}`;
export const stripAddress = (id, { start, end }, frames) =>
  `${API}/videos/${id}/strip?start=${start.toFixed(2)}&end=${end.toFixed(2)}&frames=${frames}&height=180`;
export const mediaAddress = (id) => `${API}/videos/${id}/media`;
export const planPlayback = (id, options) => get(`videos/${id}/preview`, options);
export const getPiece = async (id, number, options) =>
  (await send("GET", `videos/${id}/preview/${number}`, options)).arrayBuffer();

// Gives { job } if frames must be decoded, else { name, blob }.
export async function exportMoments(asked) {
  const response = await send("POST", "export", { body: asked });
  if (response.status === 202) return { job: await response.json() };
  const name = /filename\*=utf-8''([^;]+)/i.exec(response.headers.get("Content-Disposition") ?? "")?.[1];
  return { name: name ? decodeURIComponent(name) : `moments.${asked.format}`, blob: await response.blob() };
}

// Uploads a file; `progress` is called with the share that was sent. fetch() does not tell that.
export function upload(file, progress, signal) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${API}/uploads?${new URLSearchParams({ name: file.name })}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.total ? event.loaded / event.total : 0);
    request.onerror = () => fail(lost());
    request.onabort = () => fail(signal.reason);
    request.onload = () => {
      if (request.status === 202) return done(JSON.parse(request.responseText));
      fail(readProblem(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.send(file);
  });
}
