import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll } from 'vitest';

export interface Received {
  readonly path: string;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

/** How a receiver treats a request: with a status, or by never answering, or by closing the connection. */
export type Treatment = number | 'silent' | 'close';

/** A real HTTP server that takes webhooks. */
export interface Receiver {
  readonly url: string;
  readonly received: Received[];
  /** What comes next, in this order; afterwards 200. */
  treat(...treatments: Treatment[]): void;
  /** Closes the connections of those that it keeps waiting. */
  hangUp(): void;
}

export async function receiver(headers: Readonly<Record<string, string>> = {}): Promise<Receiver> {
  const received: Received[] = [];
  const treatments: Treatment[] = [];
  const server = http.createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += String(chunk);
    received.push({ path: request.url ?? '', headers: request.headers, body });
    const treatment = treatments.shift() ?? 200;
    if (treatment === 'silent') return;
    if (treatment === 'close') request.socket.destroy();
    else response.writeHead(treatment, headers).end('what is answered is not read');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  // A server that listens on TCP has an address with a port.
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, received, treat: (...next) => treatments.push(...next), hangUp: () => server.closeAllConnections() };
}
