import type pg from 'pg';
import type { ModeRow } from './state.ts';

/** A step of the roll-out: so many tenants of a hundred are enforced. 0: all are observed, or have a mode of their own; 100: all are enforced. */
export interface Stage {
  readonly at: Date;
  readonly percent: number;
  /** Whether the gates made it. */
  readonly automatic: boolean;
  readonly reason: string | null;
}

/** Stages that are looked at: a roll-out has a handful. */
const stagesMax = 200;

/** The stage that modes amount to; none set means enforce. */
export function stageOf(modes: readonly Pick<ModeRow, 'scope' | 'target' | 'mode'>[]): number {
  if ((modes.find(({ scope }) => scope === 'all')?.mode ?? 'enforce') === 'enforce') return 100;
  return Number(modes.find(({ scope }) => scope === 'percent')?.target ?? 0);
}

/** The stages of this roll-out, latest first. */
export async function readStages(client: pg.ClientBase | pg.Pool): Promise<Stage[]> {
  const { rows } = await client.query<Stage>(
    `select at, percent, automatic, reason from partywall.rollout_stages order by at desc, id desc limit ${stagesMax}`,
  );
  return rows;
}

/**
 * Where a step back leads: the largest percentage below the present one that was set since all was observed last, else nothing is enforced any
 * more. Never forward, whatever came between.
 */
export function stageBefore(present: number, stages: readonly Stage[]): number {
  const restart = stages.findIndex(({ percent }) => percent === 0);
  const own = restart === -1 ? stages : stages.slice(0, restart);
  return Math.max(0, ...own.map(({ percent }) => percent).filter((percent) => percent < present));
}

/** Writes a stage down. A wall that is older than stages has none: a way back must not fail for that. */
export async function noteStage(
  client: pg.ClientBase,
  stage: {
    readonly percent: number;
    readonly name: string;
    readonly reason: string | undefined;
    readonly judged: { readonly at: Date; readonly gates: readonly object[] } | undefined;
  },
): Promise<void> {
  const { percent, name, reason, judged } = stage;
  if (!(await knowsStages(client))) return;
  await client.query(
    `insert into partywall.rollout_stages (at, percent, automatic, changed_by, reason, gates) values (coalesce($1, clock_timestamp()), $2, $3, $4, $5, $6)`,
    [judged?.at, percent, judged !== undefined, name, reason, judged && JSON.stringify(judged.gates)],
  );
}

/** Whether `partywall apply` has been run since there are stages. */
export async function knowsStages(client: pg.ClientBase | pg.Pool): Promise<boolean> {
  const { rows } = await client.query<{ there: boolean }>("select to_regclass('partywall.rollout_stages') is not null as there");
  return rows[0]?.there ?? false;
}
