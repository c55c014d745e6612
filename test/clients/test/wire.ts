import net from 'node:net';
import { afterAll } from 'vitest';

/** A TCP proxy in front of a server that hears what clients send. */
export interface Wire {
  /** Connection string of the same database, past the proxy. */
  through(url: string): string;
  /** Bytes that clients have sent so far. */
  readonly sentBytes: number;
  /** Texts of the statements sent so far, in order. */
  readonly statements: readonly string[];
}

/** Closed after the test file. Hears protocol version 3 without TLS. */
export async function tapWire(url: string): Promise<Wire> {
  const target = new URL(url);
  const heard = { sentBytes: 0, statements: [] as string[] };
  const sockets = new Set<net.Socket>();
  const server = net.createServer((client) => {
    const upstream = net.connect(Number(target.port), target.hostname);
    const read = messageReader(heard.statements);
    client.on('data', (chunk: Buffer) => {
      heard.sentBytes += chunk.length;
      read(chunk);
    });
    client.pipe(upstream);
    upstream.pipe(client);
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  afterAll(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  return {
    through: (other) => {
      const tapped = new URL(other);
      tapped.hostname = '127.0.0.1';
      tapped.port = String(address.port);
      return tapped.toString();
    },
    get sentBytes() {
      return heard.sentBytes;
    },
    statements: heard.statements,
  };
}

/** Collects the texts of Query and Parse messages; the first message of a connection has no type. */
function messageReader(statements: string[]): (chunk: Buffer) => void {
  let pending = Buffer.alloc(0);
  let started = false;
  return (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (;;) {
      const head = started ? 1 : 0;
      if (pending.length < head + 4) return;
      const end = head + pending.readInt32BE(head);
      if (pending.length < end) return;
      const kind = started ? String.fromCharCode(pending[0] ?? 0) : '';
      const [first = '', second = ''] = pending
        .subarray(head + 4, end)
        .toString()
        .split('\0');
      if (kind === 'Q') statements.push(first);
      if (kind === 'P') statements.push(second);
      pending = pending.subarray(end);
      started = true;
    }
  };
}
