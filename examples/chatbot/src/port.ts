import { once } from 'node:events';
import net from 'node:net';
import { PartywallError, sqlState } from '@partywall/engine';
import type { FastifyInstance } from 'fastify';

const defaultPort = 5000;
export const host = '127.0.0.1';

/** The port is tried before anything is started: a busy one should not cost a minute first. @throws PartywallError usage, port_busy */
export async function portFromEnvironment(): Promise<number> {
  const given = process.env['PORT'] ?? String(defaultPort);
  const port = Number(given);
  if (!/^\d+$/.test(given) || port < 1 || port > 65_535)
    throw new PartywallError('usage', `reading PORT: ${JSON.stringify(given)} is not a port`, { hint: 'set PORT to a number from 1 to 65535' });
  const probe = net.createServer();
  try {
    probe.listen(port, host);
    await once(probe, 'listening');
  } catch (cause) {
    throw portError(port, cause);
  }
  probe.close();
  await once(probe, 'close');
  return port;
}

/** @throws PartywallError port_busy */
export async function listen(app: FastifyInstance, port: number): Promise<void> {
  await app.listen({ port, host }).catch((cause: unknown) => {
    throw portError(port, cause);
  });
}

function portError(port: number, cause: unknown): PartywallError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const reason = sqlState(cause) === 'EADDRINUSE' ? 'another process listens there' : message;
  return new PartywallError('port_busy', `listening on port ${port}: ${reason}`, { cause });
}
