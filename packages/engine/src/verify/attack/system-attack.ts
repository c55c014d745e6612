import { quoted } from '../../model/table-name.ts';
import type { StaticFacts } from '../static/static-facts.ts';
import { type AttackResult, broken, held, refused, stuck } from './attack-result.ts';
import { connectAsApplication } from './attack-surface.ts';
import { rolledBack } from './transaction.ts';

/** Whether the system client's own connection sees all tenants: with row_security off a bound role gets an error. */
export async function attackSystem(url: string, { model }: Pick<StaticFacts, 'model'>): Promise<AttackResult> {
  const target = `role ${model.roles.system}`;
  const client = await connectAsApplication(url, 'direct');
  try {
    return await rolledBack(client, async (tx) => {
      const who = await tx.probe('select current_user::text as role');
      const role = who.ok ? who.rows[0]?.['role'] : undefined;
      if (role !== model.roles.system) return stuck('system.bound', target, `its connection string logs in as ${role ?? 'nobody'}`);
      await tx.keep('set local row_security = off');
      const probe = await tx.probe(`select 1 from ${quoted(model.tenant.table)} limit 1`);
      if (probe.ok) return held('system.bound', target);
      return probe.state === refused
        ? broken('system.bound', target, `${model.roles.system} is bound by row level security`, probe.message)
        : stuck('system.bound', target, `${probe.state} ${probe.message}`);
    });
  } finally {
    await client.end();
  }
}
