import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { serialize } from 'node:v8';
import { expect, test } from 'vitest';
import { randomNumbers } from '../../../../../test/support/random-numbers.ts';
import { finishMove, listMoves, type Move } from '../../../src/index.ts';
import { contents, furnish, others, registered, twoHomes } from './moving.ts';
import type { MovingProcess } from './moving-process.ts';

/** Set it to repeat a run. */
const seed = Number(process.env['PARTYWALL_SEED'] ?? Date.now() % 1_000_000);
const killsOfOneMove = 5;
/** PARTYWALL_KILLS=50 for more points than a run of all tests has time for. */
const kills = Number(process.env['PARTYWALL_KILLS'] ?? 10);
/** Each kill starts a process, which on a busy machine takes seconds. */
const timeoutMs = 180_000 + kills * 20_000;
/** A whole move with its removal takes about as many. */
const statementsMax = 420;

const { first, second, placements, move } = await twoHomes();
for (const { database } of [first, second]) await database.query("insert into continents values ('EU', 'Europe')");
await first.database.query("insert into currencies values ('NOK', 'EU', 'Krone')");

async function killedMove(tenant: string, to: string | undefined, kill: MovingProcess['kill']): Promise<string> {
  const given: MovingProcess = {
    service: first.urls.service,
    placement: second.urls.service,
    model: serialize(first.model).toString('base64'),
    keyring: first.control.keyring,
    tenant,
    ...(to !== undefined && { to }),
    kill,
  };
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'moving-process.ts'), JSON.stringify(given)]);
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stderr.resume();
  const [, signal] = await once(child, 'exit');
  return signal === 'SIGKILL' ? 'killed' : said.trim();
}

/** Never two homes that let it in. */
async function homesOf(tenant: string): Promise<number> {
  const states = [await registered(first, tenant), await registered(second, tenant)];
  return states.filter((state) => JSON.stringify(state)?.includes('"state":"active","placement":null')).length;
}

function hasArrived(move: Move | undefined, to: string | undefined): boolean {
  return move !== undefined && move.direction === (to ? 'out' : 'back') && ['switched', 'finished'].includes(move.state);
}

test(
  `a move whose process is killed at any statement ends as if it had not been (seed ${seed})`,
  async () => {
    const random = randomNumbers(seed);
    const neighbour = await furnish(first, 'Neighbour', 20);
    const tenant = await furnish(first, 'Killed', 20);
    const whole = await contents(first, tenant);
    const [before, there] = [await others(first, [tenant]), await others(second, [tenant])];
    let killed = 0;
    for (let way = 0; way < 2 || (killed < kills && way < 2 * kills); way += 1) {
      const to = way % 2 === 0 ? 'second' : undefined;
      for (let run = 0; run < killsOfOneMove && (way < 2 || killed < kills); run += 1) {
        const outcome = await killedMove(tenant, to, { statement: 5 + Math.floor(random() * statementsMax), sent: random() < 0.5 });
        expect(await homesOf(tenant)).toBeLessThanOrEqual(1);
        expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
        if (outcome === 'killed') killed += 1;
        const [latest] = await listMoves(first.operation(), { tenant, limit: 1 });
        if (hasArrived(latest, to)) break;
      }
      const [latest] = await listMoves(first.operation(), { tenant, limit: 1 });
      const arrived = hasArrived(latest, to);
      if (!arrived) expect(await move(tenant, to)).toMatchObject({ state: 'done', error: null });
      const [now] = await listMoves(first.operation(), { tenant, limit: 1 });
      if (now?.state === 'switched') await finishMove(first.operation(), placements, { tenant });
      const [home, old] = to ? [second, first] : [first, second];
      expect(await contents(home, tenant)).toEqual(whole);
      expect((await contents(old, tenant)).customers).toMatchObject({ count: 0 });
      expect(await homesOf(tenant)).toBe(1);
      expect([await others(first, [tenant]), await others(second, [tenant])]).toEqual([before, there]);
    }
    expect(killed).toBeGreaterThanOrEqual(Math.min(kills, 2));
    expect((await contents(first, neighbour)).customers).toMatchObject({ count: 20 });
  },
  timeoutMs,
);
