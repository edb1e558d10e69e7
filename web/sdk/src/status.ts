// status.ts - the error table of include/nigh/status.h, once more; tests/web/test_sdk.mjs compares both.

/** name: [value, HTTP status, sentence] */
export const STATUS = {
  OK: [0, 200, 'ok'],
  EINVAL: [-1, 400, 'the request is malformed'],
  ENOENT: [-2, 404, 'no such model or document'],
  ERANGE: [-3, 413, 'larger than the limit'],
  ENOMEM: [-4, 503, 'not enough memory'],
  EIO: [-5, 502, 'reading or writing failed'],
  EDATA: [-6, 422, 'the data is damaged'],
  ECANCEL: [-7, 499, 'stopped by the caller'],
  EBUSY: [-8, 429, 'too many requests at once'],
  EAUTH: [-9, 401, 'a key is needed'],
  ENOSUP: [-10, 501, 'not supported'],
  EPOLICY: [-11, 403, 'the policy does not allow it'],
} as const;

export type StatusName = keyof typeof STATUS;

const names = Object.keys(STATUS) as StatusName[];
export const nameOfValue = (value: number): StatusName => names.find((n) => STATUS[n][0] === value) ?? 'EIO';
export const nameOfHttp = (http: number): StatusName =>
  names.find((n) => STATUS[n][1] === http) ?? (http >= 500 ? 'EIO' : 'EINVAL');

/** What every function of the SDK fails with. `code` is the name in the table, `message` says why. */
export class NighError extends Error {
  readonly code: StatusName;
  constructor(code: StatusName, text?: string) {
    super(text || STATUS[code][2]);
    this.name = 'NighError';
    this.code = code;
  }
  /** The value in C. */
  get value(): number {
    return STATUS[this.code][0];
  }
  /** The HTTP status that says the same. */
  get http(): number {
    return STATUS[this.code][1];
  }
}

export const textOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));

/** Any failure as one of ours: a DOMException of an abort or a full disk gets its place in the table. */
export function asError(e: unknown): NighError {
  if (e instanceof NighError) return e;
  const name = (e as { name?: string } | null)?.name;
  if (name === 'AbortError') return new NighError('ECANCEL');
  if (name === 'QuotaExceededError') return new NighError('ERANGE', 'the storage that the browser gives is full');
  if (e instanceof RangeError) return new NighError('ENOMEM', textOf(e));
  return new NighError('EIO', textOf(e));
}
