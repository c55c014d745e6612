import { randomUUID } from 'node:crypto';

/** Names a request in answers, logs, contexts and records of attempts. */
export const requestIdHeader = 'x-request-id';

/** What proxies and tracing tools send, and nothing that breaks a line of a log or a header. */
const wellFormed = /^[A-Za-z0-9][A-Za-z0-9_.:=+/@-]{0,127}$/;

/** The id that the request brought where it is well-formed, else one of our own. */
export function requestIdOf(brought: string | null | undefined): string {
  return brought && wellFormed.test(brought) ? brought : randomUUID();
}
