import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { literal } from '../../db/sql.ts';
import { connectAsApplication } from './attack-surface.ts';

/** Enough clients that a small pool hands one of them the connection that another used. */
const clientsMax = 4;
/** A setting of no meaning: a context left behind on a live pool would be a breach of its own. */
const probeSetting = 'partywall_verify.probe';

/** Whether a setting that one client makes for its session is there for another. The probe is emptied wherever it is found. */
export async function poolerKeepsState(url: string): Promise<boolean> {
  const clients: pg.Client[] = [];
  const token = randomUUID();
  const read = async (client: pg.Client): Promise<boolean> => {
    const { rows } = await client.query<{ found: string | null }>(`select current_setting(${literal(probeSetting)}, true) as found`);
    return rows[0]?.found === token;
  };
  try {
    for (let n = 0; n < clientsMax; n += 1) clients.push(await connectAsApplication(url, 'pooler'));
    const [first, ...others] = clients;
    if (!first) return false;
    await first.query(`select set_config(${literal(probeSetting)}, ${literal(token)}, false)`);
    let kept = false;
    for (const client of others) kept = (await read(client)) || kept;
    for (const client of clients) if (await read(client)) await client.query(`select set_config(${literal(probeSetting)}, '', false)`);
    return kept;
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}
