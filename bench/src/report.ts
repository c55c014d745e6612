/** One claim with its bound. `ok` is whether the measured value keeps it. */
export interface Check {
  readonly name: string;
  readonly value: number;
  readonly limit: number;
  readonly ok: boolean;
  readonly unit: string;
  readonly bound: 'at most' | 'at least';
}

/** A number without a bound, shown beside the checks: the raw figure that a ratio came from. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
}

/** What one benchmark measured. */
export interface BenchResult {
  readonly checks: readonly Check[];
  readonly figures?: readonly Figure[];
  /** Distributions and other data for --json, by name. */
  readonly series?: Readonly<Record<string, unknown>>;
}

export interface Machine {
  readonly cpus: number;
  readonly node: string;
  readonly postgres: string;
}

export function atMost(limit: number, measured: Figure): Check {
  return { ...measured, limit, ok: measured.value <= limit, bound: 'at most' };
}

export function atLeast(limit: number, measured: Figure): Check {
  return { ...measured, limit, ok: measured.value >= limit, bound: 'at least' };
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Nearest-rank percentile with interpolation between the two nearest ranks; `p` from 0 to 100. */
export function percentile(values: readonly number[], p: number): number {
  if (values.length === 0) throw new RangeError('percentile of no values');
  const sorted = Float64Array.from(values).sort();
  const at = ((sorted.length - 1) * p) / 100;
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? 0;
  return low + (high - low) * (at - Math.floor(at));
}

/** Summary of a distribution, for `series`. */
export function distribution(values: readonly number[]): { count: number; p50: number; p90: number; p99: number; max: number } {
  return { count: values.length, p50: median(values), p90: percentile(values, 90), p99: percentile(values, 99), max: percentile(values, 100) };
}

export interface Pairs {
  /** Milliseconds of each run, in order. */
  readonly a: readonly number[];
  readonly b: readonly number[];
  /** Median of a over median of b. */
  readonly ratio: number;
}

/**
 * Times two ways of doing the same thing, interleaved, so that whatever else the machine does hits both alike. Which one goes
 * first alternates: the second of two runs finds warmer caches. A tenth of `n` runs before, untimed.
 */
export async function pairs(a: () => Promise<unknown>, b: () => Promise<unknown>, n: number): Promise<Pairs> {
  if (n < 1) throw new RangeError(`pairs: ${n} runs`);
  for (let warm = 0; warm < Math.ceil(n / 10); warm += 1) {
    await a();
    await b();
  }
  const times = { a: [] as number[], b: [] as number[] };
  for (let run = 0; run < n; run += 1) {
    if (run % 2 === 0) {
      times.a.push(await elapsedMs(a));
      times.b.push(await elapsedMs(b));
    } else {
      times.b.push(await elapsedMs(b));
      times.a.push(await elapsedMs(a));
    }
  }
  return { ...times, ratio: median(times.a) / median(times.b) };
}

export async function elapsedMs(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

/** The table that a person reads; `--json` prints the same result as one object. */
export function renderTable(name: string, machine: Machine, result: BenchResult): string {
  const rows = [
    ['', 'what', 'measured', 'bound'],
    ...result.checks.map((check) => [check.ok ? 'ok' : 'FAIL', check.name, `${short(check.value)} ${check.unit}`, `${check.bound} ${short(check.limit)}`]),
    ...(result.figures ?? []).map((figure) => ['', figure.name, `${short(figure.value)} ${figure.unit}`, '']),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column === 2 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  return [`${name}: ${machine.cpus} CPUs, Node ${machine.node}, PostgreSQL ${machine.postgres}`, ...lines].join('\n');
}

function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const decimals = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 1 ? 2 : 3;
  return value.toLocaleString('en-US', { minimumFractionDigits: Number.isInteger(value) ? 0 : decimals, maximumFractionDigits: decimals });
}
