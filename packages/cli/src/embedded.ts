import path from 'node:path';
import { type EmbeddedServer, startEmbedded } from '@partywall/engine';
import type { CommandContext } from './context.ts';

/** Where `partywall up` keeps what it starts and the passwords it makes; git should not. */
export const stateFolder = '.partywall';

export interface Trial {
  readonly server: EmbeddedServer;
  readonly folder: string;
  /** Waits for an interruption, then stops the server. Returns at once for a server that another process started. */
  readonly serve: (signal: AbortSignal) => Promise<void>;
}

/** Starts, or finds running, the embedded server of the working directory. */
export async function startTrial(ctx: CommandContext, options: { readonly port?: number }): Promise<Trial> {
  const folder = path.join(ctx.cwd, stateFolder);
  const server = await startEmbedded({ dataDir: path.join(folder, 'postgres'), ...(options.port !== undefined && { port: options.port }) });
  ctx.talk.line(server.adopted ? `PostgreSQL was running on port ${server.port}` : `PostgreSQL started on port ${server.port}, data in ${server.dataDir}`);
  const serve = async (signal: AbortSignal): Promise<void> => {
    if (server.adopted) return;
    ctx.talk.line('Ctrl-C stops the server.');
    await interrupted(signal);
    await server.stop();
    ctx.talk.line('PostgreSQL stopped');
  };
  return { server, folder, serve };
}

/** A timer keeps the process alive: an abort signal alone does not. */
function interrupted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const keepAlive = setInterval(() => undefined, 60_000);
    signal.addEventListener(
      'abort',
      () => {
        clearInterval(keepAlive);
        resolve();
      },
      { once: true },
    );
  });
}
