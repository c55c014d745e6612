import { once } from 'node:events';
import net from 'node:net';
import Fastify from 'fastify';
import { afterAll, expect, test } from 'vitest';
import { clientGone } from '../src/client-gone.ts';
import { boundedServer } from '../src/index.ts';

const app = Fastify(boundedServer);
afterAll(() => app.close());
const signals: AbortSignal[] = [];
const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
app.post('/read', async (request, reply) => {
  const signal = clientGone(reply);
  // The request is closed once its body has been read, which is a turn or two after the handler starts.
  await new Promise((resolve) => (request.raw.closed ? resolve(undefined) : request.raw.once('close', resolve)));
  return { aborted: signal.aborted };
});
app.get('/wait', (_request, reply) => {
  signals.push(clientGone(reply));
  begin();
  return new Promise(() => undefined);
});
const origin = await app.listen({ host: '127.0.0.1', port: 0 });

test('a request whose body has been read to its end is still wanted', async () => {
  const answer = await fetch(`${origin}/read`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a": 1}' });
  expect(await answer.json()).toEqual({ aborted: false });
});

test('a client that leaves before its answer aborts the work', async () => {
  const socket = net.connect(Number(new URL(origin).port), '127.0.0.1');
  socket.write('GET /wait HTTP/1.1\r\nHost: x\r\n\r\n');
  await begun;
  const [signal] = signals;
  const aborted = once(signal ?? new EventTarget(), 'abort');
  socket.destroy();
  await aborted;
  expect(signal?.aborted).toBe(true);
});
