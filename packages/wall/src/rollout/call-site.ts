import { AsyncLocalStorage } from 'node:async_hooks';
import path from 'node:path';

/** Where the application has asked for a statement. Taken cheaply, put into words only where it is needed. */
export interface CallSite {
  readonly stack?: string;
}

/** Libraries put many frames between the application and its pool. */
const framesMax = 40;
const locationCharsMax = 300;
const wallFolder = path.dirname(import.meta.dirname);

const carried = new AsyncLocalStorage<CallSite>();

/** The stack of the caller, unread: V8 puts it into words when `stack` is first asked for, which costs more than taking it. */
export function takeCallSite(): CallSite {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = framesMax;
  const site: CallSite = {};
  Error.captureStackTrace(site, takeCallSite);
  Error.stackTraceLimit = limit;
  return site;
}

/** Runs `fn` so that what it sends later, past the application's own stack, is known to come from the site. */
export function atCallSite<Result>(site: CallSite | undefined, fn: () => Result): Result {
  return site ? carried.run(site, fn) : fn();
}

/** The site that was carried here. */
export function carriedCallSite(): CallSite | undefined {
  return carried.getStore();
}

/** `src/routes/invoices.ts:42` of the first frame that is neither the wall's, nor a package's, nor Node's own; '' where there is none. */
export function locationOf(site: CallSite | undefined): string {
  for (const line of site?.stack?.split('\n').slice(1) ?? []) {
    const frame = /(?:\(|at (?:async )?)((?:file:\/\/)?\/?[^()]+?):(\d+):\d+\)?$/.exec(line.trim());
    const file = frame?.[1]?.replace(/^file:\/\//, '');
    if (file === undefined || file.startsWith('node:') || file.includes('/node_modules/') || file.startsWith(wallFolder + path.sep)) continue;
    const relative = path.relative(process.cwd(), file);
    return `${relative.startsWith('..') ? file : relative}:${frame?.[2]}`.slice(0, locationCharsMax);
  }
  return '';
}
