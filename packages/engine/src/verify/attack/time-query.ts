import type pg from 'pg';
import { quoted } from '../../model/table-name.ts';
import { type StaticFacts, topTables } from '../static/static-facts.ts';
import { connectAsApplication, meansOf } from './attack-surface.ts';
import { enter, rolledBack } from './transaction.ts';

const runs = 5;

/** Times a list of 50 rows of the largest walled table, warm, as one tenant. */
export async function timeQuery(
  url: string,
  facts: StaticFacts,
  { tenant, admin }: { readonly tenant: string; readonly admin: pg.ClientBase },
): Promise<{ table: string; medianMs: number } | { failed: string }> {
  const [largest] = topTables(facts.wanted)
    .filter((table) => table.rule !== undefined)
    .sort((left, right) => right.relation.estimatedRows - left.relation.estimatedRows);
  if (!largest) return { failed: 'there is no walled table' };
  const { table } = largest.relation;
  const client = await connectAsApplication(url, 'direct');
  try {
    return await rolledBack(
      client,
      async (tx) => {
        const entered = await enter(tx, tenant);
        if (!entered.ok) return { failed: `entering the tenant: ${entered.message}` };
        const times: number[] = [];
        for (let run = 0; run <= runs; run += 1) {
          const from = performance.now();
          const probe = await tx.probe(`select * from ${quoted(table)} limit 50`);
          if (!probe.ok) return { failed: `reading ${table}: ${probe.state} ${probe.message}` };
          if (run > 0) times.push(performance.now() - from);
        }
        return { table, medianMs: times.sort((left, right) => left - right)[Math.floor(runs / 2)] ?? 0 };
      },
      meansOf(facts, admin),
    );
  } finally {
    await client.end();
  }
}
