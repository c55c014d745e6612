import type pg from 'pg';
import { appendAudit } from '../audit/append.ts';
import { type Actor, type Operation, transactionOn } from '../db/operation.ts';
import { ident } from '../db/sql.ts';
import type { TenancyModel } from '../model/model.ts';
import { setFact } from '../wall/facts.ts';
import { qualified, runtimeLock, sealedFact, unsealedFunctions } from '../wall/runtime.ts';
import { planSeal, type SealPlan, type SealRequest, type SealStep } from './plan-seal.ts';
import { hmacBlocks, newSealKey, type SealKey, sealKeyText } from './seal-key.ts';
import { readSealState, type SealState } from './seal-state.ts';

export interface SealOptions {
  /** Plan, change nothing. */
  readonly dryRun?: boolean;
  readonly actor: Actor;
  /** Told the new key inside the transaction that adds it, so that it is kept before the database takes it; throwing undoes it. */
  readonly onKey?: (text: string) => Promise<void>;
}

export interface SealReport {
  readonly plan: SealPlan;
  /** As it is now; what it was, in a dry run. */
  readonly state: SealState;
}

/**
 * Seals a database, opens it, or changes its keys, in one transaction that the audit log records where the control plane is installed.
 *
 * @param client a session of the owner of schema `partywall`, or of a superuser
 * @throws PartywallError seal_unchanged, phase_refused, permission_missing
 */
export async function changeSeal(client: pg.ClientBase, model: TenancyModel, request: SealRequest, options: SealOptions): Promise<SealReport> {
  const { app } = model.roles;
  return transactionOn(client, async () => {
    await client.query(runtimeLock);
    const state = await readSealState(client, app);
    const plan = planSeal(request, state, { app, known: request.kind === 'add' ? await isKnown(client, request.key) : undefined });
    if (options.dryRun || plan.steps.length === 0) return { plan, state };
    for (const step of plan.steps) await carryOut(client, step, request, options);
    await record(client, model, { request, plan, actor: options.actor });
    return { plan, state: await readSealState(client, app) };
  });
}

async function carryOut(client: pg.ClientBase, step: SealStep, request: SealRequest, { onKey }: SealOptions): Promise<void> {
  switch (step.kind) {
    case 'close':
      await client.query(`revoke execute on function ${qualified(unsealedFunctions)} from public, ${ident(step.role)} cascade`);
      await client.query(setFact(sealedFact, { role: step.role }));
      return;
    case 'open':
      await client.query(`delete from partywall.facts where name = '${sealedFact}'`);
      await client.query(`grant execute on function ${qualified(unsealedFunctions)} to ${ident(step.role)}`);
      return;
    case 'key': {
      const key = request.kind === 'add' ? request.key : newSealKey(step.id);
      const { ipad, opad } = hmacBlocks(key);
      // Values of statements that are logged are logged too.
      await client.query("select set_config('log_parameter_max_length', '0', true) where has_parameter_privilege('log_parameter_max_length', 'set')");
      await client.query('insert into partywall.seal_keys (id, ipad, opad) values ($1, $2, $3)', [key.id, ipad, opad]);
      await onKey?.(sealKeyText(key));
      return;
    }
    case 'retire':
      await client.query('update partywall.seal_keys set retired_at = now() where id = $1', [step.id]);
  }
}

/** Whether the database has this very key; undefined where it has none of that number. */
async function isKnown(client: pg.ClientBase, key: SealKey): Promise<boolean | undefined> {
  const { ipad, opad } = hmacBlocks(key);
  const { rows } = await client.query<{ same: boolean }>(
    'select k.ipad = $2 and k.opad = $3 and k.retired_at is null as same from partywall.seal_keys k where k.id = $1',
    [key.id, ipad, opad],
  );
  return rows[0]?.same;
}

async function record(client: pg.ClientBase, model: TenancyModel, done: { request: SealRequest; plan: SealPlan; actor: Operation['actor'] }): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>("select to_regprocedure('partywall_control.append_audit(jsonb)') is not null as there");
  if (!rows[0]?.there) return;
  const keys = done.plan.steps.flatMap((step) => ('id' in step ? [step.id] : []));
  await appendAudit(
    client,
    { actor: done.actor },
    { tenant: null, action: `seal.${done.request.kind}`, target: `role:${model.roles.app}`, details: keys.length > 0 ? { key: keys[0] } : {} },
  );
}
