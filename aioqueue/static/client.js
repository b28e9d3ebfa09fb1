/**
 * The JavaScript client of aioqueue, for browsers and Node 18 or newer. No dependency.
 *
 *     import { submit } from "/queue/client.js";
 *     const job = submit("/ocr", { image: file, language: "en" });
 *     for await (const event of job) show(event);       // position, progress, outputs, the end
 *     const text = await job.result;
 *
 * All jobs of a page share one stream: a browser allows six connections to a host. It is read with
 * fetch, not EventSource, which can't send headers, gives up for good on any answer but 200, and
 * tells nobody why.
 */

const ENDS = new Set(["succeeded", "failed", "cancelled"]);
const JOBS_PER_STREAM = 50; // the server's limit
const POLLS = 15; // looks, until a stream is tried again
const ATTEMPTS = 6; // to submit or to cancel
const UNKNOWN = "The server does not know this job any more.";

/** Milliseconds; change them before the first job. */
export const timing = {
  gather: 30, // to wait for more jobs of the same click
  firstByte: 10_000, // until a stream counts as held back by something in between
  silence: 60_000, // until a connection counts as dead; the server pings every 15 s
  poll: 2000, // between two looks where streams are held back
  slowest: 30_000, // between two attempts, at most
};

/** What the server refused, or how a job failed: its problem document (RFC 9457) as an error. */
export class QueueError extends Error {
  constructor(problem, retryAfter = null) {
    super(problem.detail ?? problem.title ?? `HTTP status ${problem.status}`);
    this.name = "QueueError";
    this.code = problem.code ?? "http_error";
    this.status = problem.status ?? null;
    this.retryAfter = retryAfter;
    this.problem = problem;
  }
}

/** Submit a job. It returns at once; what happens is told by the job. */
export function submit(url, args = {}, options = {}) {
  const job = new Job(options);
  job._start(new URL(url, globalThis.location?.href), args, options.idempotencyKey ?? newKey());
  return job;
}

/** Follow a job that was submitted before, by its `url`: after a reload, or on another page. */
export function follow(url, options = {}) {
  const job = new Job(options);
  job._accept(new URL(url, globalThis.location?.href).href, null);
  return job;
}

class Job {
  url = null;
  id = null;
  state = "queued";
  _cursor = "1-0"; // nothing seen yet
  #history = [];
  #readers = new Set();
  _over = false;
  #error = null;
  #settle = {};

  constructor({ headers = {}, credentials = "same-origin", signal } = {}) {
    this._init = { headers, credentials, cache: "no-store" };
    for (const name of ["accepted", "result"]) {
      this[name] = new Promise((resolve, reject) => (this.#settle[name] = { resolve, reject }));
      this[name].catch(() => {}); // nobody has to wait for both
    }
    const abort = () => {
      this.cancel().catch(() => {});
      this._fail(signal.reason);
    };
    if (signal?.aborted) this._fail(signal.reason);
    else signal?.addEventListener("abort", abort, { once: true });
  }

  /** Take the job out of the line, or stop it. Resolves to the job as the server has it then. */
  async cancel() {
    if (!this._over || this.url) await this.accepted;
    if (!this.url) return null; // it has answered already, or never left
    return (await this.#fetch("", "DELETE")).json();
  }

  #fetch(below, method = "GET") {
    return persist(() => fetch(this.url + below, { ...this._init, method }));
  }

  /** Every event from the first on; of those that replace each other, the newest. */
  async *[Symbol.asyncIterator]() {
    const reader = { pending: [...this.#history], wake: null };
    this.#readers.add(reader);
    try {
      for (;;) {
        while (reader.pending.length) yield reader.pending.shift();
        if (this.#error) throw this.#error;
        if (this._over) return;
        await new Promise((resolve) => (reader.wake = resolve));
      }
    } finally {
      this.#readers.delete(reader);
    }
  }

  async _start(url, args, key) {
    try {
      if (this._over) return;
      const lost = (delay) => this._receive(connection(false, delay));
      const response = await persist(() => fetch(url, request(this._init, args, key)), lost);
      const resource = response.status === 202 ? await response.json() : null;
      if (resource?.links?.self) this._accept(new URL(resource.links.self, url).href, resource);
      else this._receive({ type: "succeeded", result: await content(response) });
    } catch (error) {
      this._fail(error);
    }
  }

  _accept(url, resource) {
    this.url = url;
    this.id = new URL(url).pathname.split("/").pop();
    this.#settle.accepted.resolve(resource);
    if (!this._over) streamFor(this).add(this);
  }

  _receive(event, id) {
    if (this._over) return;
    if (id) this._cursor = id;
    if (event.type === "state") this.state = event.state;
    if (event.type === "started") this.state = "running";
    if (event.type === "restarted") this.#history.length = 0; // what was put out before is void
    if (ENDS.has(event.type)) {
      this.state = event.type;
      this.#end(event);
    }
    for (const { pending } of [{ pending: this.#history }, ...this.#readers]) {
      // What has no id is replaced by the next of its kind.
      const old = id ? -1 : pending.findIndex((one) => one.type === event.type && !one._id);
      if (old >= 0) pending.splice(old, 1);
      pending.push(id ? Object.defineProperty(event, "_id", { value: id }) : event);
    }
    this.#wake();
  }

  _fail(error) {
    if (this._over) return;
    this._over = true;
    this.#error = error;
    for (const promise of Object.values(this.#settle)) promise.reject(error);
    this.#wake();
  }

  #end(event) {
    this._over = true;
    const { accepted, result } = this.#settle;
    accepted.resolve(null);
    if (event.type === "succeeded") result.resolve(event.file ? this.#fetch("/result").then(content) : event.result);
    else result.reject(new QueueError(event.error ?? {
      code: "job_cancelled", status: 409, detail: "The job was cancelled.", reason: event.reason,
    }));
  }

  #wake() {
    for (const reader of this.#readers) reader.wake?.();
  }
}

/** One connection, and the jobs that are followed on it. */
class Stream {
  #jobs = new Map();
  #interrupt = null;
  #running = false;
  #attempt = 0;
  #retry = 1000;
  #polls = 0;

  constructor(url, init) {
    this.url = url;
    this.init = init;
  }

  get full() {
    return this.#jobs.size >= JOBS_PER_STREAM;
  }

  add(job) {
    this.#jobs.set(job.id, job);
    if (this.#running) this.#interrupt?.abort("more");
    else this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#open().length) {
      await pause(timing.gather);
      this.#interrupt = new AbortController();
      try {
        await (this.#polls-- > 0 ? this.#poll() : this.#read(this.#interrupt));
      } catch (error) {
        if (this.#interrupt.signal.reason === "more") continue;
        if (this.#interrupt.signal.reason === "blocked") this.#polls = POLLS;
        else if (!isPassing(error)) this.#each((job) => job._fail(error));
        else await this.#wait(error);
      }
    }
    this.#running = false;
  }

  /** Those not yet over; the others are forgotten. */
  #open() {
    for (const [id, job] of this.#jobs) if (job._over) this.#jobs.delete(id);
    return [...this.#jobs.values()];
  }

  #each(tell) {
    this.#open().forEach(tell);
  }

  async #read(interrupt) {
    const jobs = this.#open();
    const url = new URL(this.url);
    for (const { id } of jobs) url.searchParams.append("job", id);
    url.searchParams.set("last_event_id", jobs.map((job) => job._cursor).join("."));
    let timer;
    const expect = (delay, reason) => {
      clearTimeout(timer);
      timer = setTimeout(() => interrupt.abort(reason), delay);
    };
    try {
      expect(timing.firstByte, "blocked");
      const headers = { ...this.init.headers, Accept: "text/event-stream" };
      const response = await fetch(url, { ...this.init, headers, signal: interrupt.signal });
      if (response.status === 204) return await this.#poll();
      if (!response.ok) throw await refusal(response);
      const heard = () => expect(timing.silence, "silent");
      for await (const { id, retry, data } of blocks(response.body, heard)) {
        if (retry) this.#retry = Number(retry);
        if (!data) continue;
        const event = JSON.parse(data);
        this.#deliver(event, id?.split(".")[jobs.findIndex((job) => job.id === event.job)]);
        if (!this.#open().length) return;
      }
    } finally {
      clearTimeout(timer);
      interrupt.abort("done"); // closes the connection
    }
    throw new TypeError("The connection was closed.");
  }

  #deliver(event, id) {
    if (this.#attempt) this.#each((job) => job._receive(connection(true)));
    this.#attempt = 0;
    const job = this.#jobs.get(event.job);
    if (event.type !== "gone") job?._receive(event, id);
    else job?._fail(new QueueError({ code: "not_found", status: 404, detail: UNKNOWN }));
  }

  async #poll() {
    for (const job of this.#open()) {
      const response = await fetch(job.url, this.init);
      if (response.status === 404) this.#deliver({ type: "gone", job: job.id });
      else if (!response.ok) throw await refusal(response);
      else {
        const resource = { ...(await response.json()), job: job.id };
        this.#deliver({ ...resource, type: "state" });
        if (ENDS.has(resource.state)) this.#deliver({ ...resource, type: resource.state });
      }
    }
    if (this.#open().length) await pause(timing.poll * (0.8 + 0.4 * Math.random()));
  }

  async #wait(error) {
    const delay = backoff(this.#attempt++, this.#retry, error.retryAfter);
    // A connection that ends now and then is nobody's concern; one that stays away is.
    if (this.#attempt > 1) this.#each((job) => job._receive(connection(false, delay)));
    this.#interrupt = new AbortController();
    await pause(delay, this.#interrupt);
  }
}

const streams = new Map(); // where and how → the streams that are open there

function streamFor(job) {
  const url = new URL("../events", job.url).href;
  const key = JSON.stringify([url, job._init]);
  if (!streams.has(key)) streams.set(key, []);
  const open = streams.get(key);
  let stream = open.find((one) => !one.full);
  if (!stream) open.push((stream = new Stream(url, job._init)));
  return stream;
}

/** The blocks of a stream (WHATWG HTML, section 9.2.6); one that is cut off is dropped. */
async function* blocks(body, heard) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let block = {};
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const lines = (rest + decoder.decode(value, { stream: true })).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (line) block[field] = text;
      else {
        yield block;
        block = {};
      }
    }
  }
}

function request(init, args, key) {
  const headers = { ...init.headers, "Prefer": "respond-async", "Idempotency-Key": `"${key}"` };
  const isForm = args instanceof FormData;
  if (!isForm && !Object.values(args).flat().some((value) => value instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    return { ...init, method: "POST", headers, body: JSON.stringify(args) };
  }
  const form = isForm ? args : new FormData();
  if (!isForm) {
    for (const [name, value] of Object.entries(args)) for (const one of [value].flat()) form.append(name, one);
  }
  return { ...init, method: "POST", headers, body: form };
}

/** Ask until there is an answer. The key makes a second asking the same job. */
async function persist(ask, lost = () => {}) {
  for (let attempt = 0; ; attempt++) {
    try {
      const response = await ask();
      if (response.ok) return response;
      throw await refusal(response);
    } catch (error) {
      // What the queue itself refuses is refused: the user decides whether to come back.  But where
      // a repetition finds no room for its files, the job may have been taken, and be the one in it.
      const isRepeated = attempt > 0 && error.code === "spool_full";
      const isOurs = error instanceof QueueError && error.code !== "http_error" && !isRepeated;
      if (isOurs || !isPassing(error) || attempt + 1 >= ATTEMPTS) throw error;
      const delay = backoff(attempt, 500, error.retryAfter);
      lost(delay);
      await pause(delay);
    }
  }
}

/** Whether it is worth trying again: the network, or a server that is busy or being restarted. */
function isPassing(error) {
  if (error instanceof QueueError) return error.status >= 500 || error.status === 429;
  return error instanceof TypeError || error?.name === "AbortError" || typeof error === "string";
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const after = Number(response.headers.get("Retry-After")) || null;
  return new QueueError({ ...problem, status: response.status }, after);
}

function content(response) {
  const isJson = /^application\/(.+\+)?json\b/.test(response.headers.get("Content-Type"));
  const hasName = /filename/.test(response.headers.get("Content-Disposition")); // then it is a file
  return isJson && !hasName ? response.json() : response.blob();
}

function connection(online, delay = 0) {
  return { type: "connection", online, retry_in: delay / 1000 };
}

function backoff(attempt, first, retryAfter) {
  const delay = retryAfter ? retryAfter * 1000 : Math.min(first * 2 ** attempt, timing.slowest);
  return delay * (0.75 + 0.5 * Math.random());
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Wait; less long if the network comes back, or if there is something else to do. */
function pause(delay, interrupt) {
  return new Promise((resolve) => {
    const go = () => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", go);
      resolve();
    };
    const timer = setTimeout(go, delay);
    globalThis.addEventListener?.("online", go);
    interrupt?.signal.addEventListener("abort", go, { once: true });
  });
}
