/** Types of client.js, the JavaScript client of aioqueue. */

/** A problem document (RFC 9457). */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  code?: string;
  [extension: string]: unknown;
}

export interface JobResource<Result = unknown> {
  id: string;
  function: string;
  state: State;
  position: number | null;
  /** Whether it waits beside the line, since its client is at its limit. */
  held: boolean;
  queue_size: number | null;
  /** Seconds to the result: the middle of what is likely, and what nine of ten stay below. */
  eta: number | null;
  eta_high: number | null;
  progress: Progress | null;
  cancel_requested: boolean;
  created: string;
  started: string | null;
  finished: string | null;
  expires: string | null;
  result: Result | null;
  /** Whether a generator put out more than is kept: then its result is null. */
  truncated?: boolean;
  error: Problem | null;
  /** Instead of a result that is a file, no JSON or large: `Job.result` fetches it; what is a file
   * or no JSON comes as a Blob. */
  file?: ResultFile;
  links: { self: string; events: string; result: string };
}

/** How far a function says it is: a share from 0 to 1, and steps, where it counts any. */
export interface Progress {
  progress: number | null;
  step: number | null;
  total: number | null;
  message: string | null;
}

export interface ResultFile {
  content_type: string;
  size: number;
  name: string | null;
}

export type State = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** What happens to a job. There may be more types in time: ignore those you don't know. */
export type JobEvent<Result = unknown> =
  | ({ type: "state"; job: string; truncated?: boolean } & JobResource<Result>)
  | { type: "position"; job: string; position: number | null; held: boolean; queue_size: number;
      eta: number | null; eta_high: number | null; reason?: string }
  | { type: "started"; job: string; eta: number | null }
  /** The job runs once more: what it has put out before is void. */
  | { type: "restarted"; job: string }
  | ({ type: "progress"; job: string } & Progress)
  | { type: "log"; job: string; level: string; message: string }
  /** What a generator yields, counted from 0. */
  | { type: "output"; job: string; index: number; data: unknown }
  | { type: "succeeded"; job: string; result: Result; truncated?: boolean; file?: ResultFile }
  | { type: "failed"; job: string; error: Problem }
  | { type: "cancelled"; job: string; reason: string | null }
  /** Made here, not by the server: the connection is lost, or is back. */
  | { type: "connection"; online: boolean; retry_in: number };

export interface Options {
  /** Sent with every request of this job. */
  headers?: Record<string, string>;
  /** As for fetch; "include" sends cookies to another origin. */
  credentials?: RequestCredentials;
  /** Aborting it cancels the job. */
  signal?: AbortSignal;
}

export interface Job<Result = unknown> extends AsyncIterable<JobEvent<Result>> {
  /** Where the job lives, once it was accepted; keep it to `follow` the job later. */
  readonly url: string | null;
  readonly id: string | null;
  readonly state: State;
  /** The job when it was accepted; null if it was followed, or answered at once. */
  readonly accepted: Promise<JobResource<Result> | null>;
  /** The result; rejects with a QueueError if the job failed, was cancelled or was refused. */
  readonly result: Promise<Result>;
  /** Take it out of the line, or stop it. Resolves to the job as it is then. */
  cancel(): Promise<JobResource<Result> | null>;
}

/** What the server refused, or how a job failed. */
export class QueueError extends Error {
  /** "queue_full", "invalid_arguments", "job_failed", "job_cancelled", "not_found", … */
  readonly code: string;
  readonly status: number | null;
  /** Seconds after which the server expects to have room. */
  readonly retryAfter: number | null;
  readonly problem: Problem;
}

/**
 * Submit a job and follow it. Arguments go as JSON, or as a form if one of them is a Blob or File.
 *
 * Asked again after a lost connection, the server knows the job by its key and runs it once.
 */
export function submit<Result = unknown>(
  url: string | URL,
  args?: Record<string, unknown> | FormData,
  options?: Options & { idempotencyKey?: string },
): Job<Result>;

/** Follow a job by its `url`: after a reload, or on another page. */
export function follow<Result = unknown>(url: string | URL, options?: Options): Job<Result>;

/** Milliseconds; change them before the first job. */
export const timing: {
  gather: number;
  firstByte: number;
  silence: number;
  poll: number;
  slowest: number;
};
