import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { PrincipalCache } from './principal-cache.ts';

/** As the triggers of the people's tables name it. */
const channel = 'partywall_people';
/** How often it is tried whether what is announced arrives. */
const beatMs = 2_000;
/** A listener that has not heard its own announcement for that long is not trusted. */
const trustMs = 5_000;
const reconnectMs = 1_000;

/**
 * Keeps a cache honest: forgets what the database announces, and lets the cache answer only as long as announcements demonstrably arrive. To
 * know that they do, it announces something itself over the pool and waits to hear it on its own connection; a connection that is lost,
 * silent, or behind a pooler that swallows notifications never extends the trust.
 *
 * Resolves once it listens or has failed to for the first time; goes on trying until closed.
 */
export async function listen(pool: pg.Pool, cache: PrincipalCache, now: () => number): Promise<{ close(): Promise<void> }> {
  const id = randomBytes(12).toString('hex');
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let heardAt = now();
  let closed = false;

  const lost = (broken: pg.Client): void => {
    if (client !== broken) return;
    client = undefined;
    cache.trustUntil(0);
    cache.forgetAll();
    void broken.end().catch(() => undefined); // it is gone already
    schedule(start, reconnectMs);
  };

  const schedule = (work: () => Promise<void>, ms: number): void => {
    clearTimeout(timer);
    if (!closed) timer = setTimeout(() => void work(), ms).unref();
  };

  const beat = async (): Promise<void> => {
    const asked = client;
    if (!asked) return;
    if (now() - heardAt > trustMs) {
      lost(asked);
      return;
    }
    try {
      await pool.query('select pg_notify($1, $2)', [channel, `${id}:${now()}`]);
    } catch {
      // No trust without an answer: that is all that has to follow.
    }
    if (client === asked) schedule(beat, beatMs);
  };

  const start = async (): Promise<void> => {
    const fresh = new pg.Client({ ...pool.options, password: pool.options.password, application_name: 'partywall listen', keepAlive: true });
    client = fresh;
    fresh.on('error', () => lost(fresh));
    fresh.on('end', () => lost(fresh));
    fresh.on('notification', ({ payload = '' }) => {
      const [from, sentAt] = payload.split(':');
      if (sentAt === undefined) cache.forget(payload);
      // Trust counts from when the beat was sent: whatever was committed before has been heard by now.
      else if (from === id && client === fresh) {
        heardAt = now();
        cache.trustUntil(Number(sentAt) + trustMs);
      }
    });
    try {
      await fresh.connect();
      await fresh.query(`listen ${channel}`);
    } catch {
      lost(fresh);
      return;
    }
    // What changed while nobody listened is not known.
    cache.forgetAll();
    heardAt = now();
    await beat();
  };

  await start();
  return {
    close: async () => {
      closed = true;
      clearTimeout(timer);
      cache.trustUntil(0);
      const last = client;
      client = undefined;
      await last?.end().catch(() => undefined); // closing twice is no failure
    },
  };
}
