import { once } from 'node:events';
import net from 'node:net';

export interface Load {
  readonly requestsPerSecond: number;
  /** Milliseconds of each answer. */
  readonly latencies: readonly number[];
}

/**
 * Asks one URL over `connections` kept-alive connections, each as soon as its last answer is there, for `milliseconds`. Written on sockets,
 * because the client shares the machine with the server it measures. Throws on an answer that is not 200.
 */
export async function load(target: string, headers: Readonly<Record<string, string>>, options: { connections: number; milliseconds: number }): Promise<Load> {
  const { hostname, port, pathname, search } = new URL(target);
  const lines = Object.entries({ host: `${hostname}:${port}`, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = `GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`;
  const latencies: number[] = [];
  const until = performance.now() + options.milliseconds;
  const from = performance.now();
  await Promise.all(Array.from({ length: options.connections }, () => keepAsking(Number(port), hostname, request, until, latencies)));
  return { requestsPerSecond: (latencies.length / (performance.now() - from)) * 1_000, latencies };
}

async function keepAsking(port: number, host: string, request: string, until: number, latencies: number[]): Promise<void> {
  const socket = net.connect(port, host);
  socket.setNoDelay(true);
  await once(socket, 'connect');
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let sent = performance.now();
  let received: Buffer = Buffer.alloc(0);
  socket.on('error', reject);
  socket.on('close', () => reject(new Error('the server closed the connection')));
  socket.on('data', (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    const head = received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const header = received.toString('latin1', 0, head);
    const length = Number(/^content-length: (\d+)/im.exec(header)?.[1]);
    if (!header.startsWith('HTTP/1.1 200') || Number.isNaN(length)) {
      reject(new Error(`the answer was ${header.split('\r\n', 1)[0]}`));
      return;
    }
    if (received.length < head + 4 + length) return;
    const now = performance.now();
    latencies.push(now - sent);
    received = Buffer.alloc(0);
    if (now >= until) {
      resolve();
      return;
    }
    sent = now;
    socket.write(request);
  });
  socket.write(request);
  await promise.finally(() => {
    socket.removeAllListeners('close');
    socket.destroy();
  });
}
