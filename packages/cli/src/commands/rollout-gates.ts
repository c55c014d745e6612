import { setTimeout as delay } from 'node:timers/promises';
import {
  checkIntegrity,
  checkRollout,
  connect,
  type Gate,
  type GuardReport,
  guardRollout,
  type IntegrityReport,
  integrityTimeoutMs,
  type RolloutCheck,
  readThresholds,
  setThreshold,
  type TableIntegrity,
  type Thresholds,
  thresholdRules,
} from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config-file.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { rolloutUrl, withService } from '../control.ts';
import { helpEnding } from './help.ts';

const checkExit = { green: 0, breach: 1, not_enough: 3 } as const;
const integrityExit = { sound: 0, damaged: 1, unknown: 2 } as const;
/** Counts are kept for eight days. */
const sinceMaxMs = 8 * 86_400_000;
/** Longest that a watcher waits between two looks (seconds). */
const everyMax = 3_600;

/** What is judged, watched and counted of a roll-out: `partywall rollout check`, `watch`, `thresholds`, `integrity`. */
export function registerRolloutGates(rollout: Command, start: Start): void {
  rollout
    .command('check')
    .description('Judge the roll-out by its gates. Changes nothing.')
    .option('--since <time>', 'from this time on, ISO 8601 or 90m, 24h, 2d ago (default: the window of the thresholds)', parseSince)
    .addHelpText(
      'after',
      helpEnding({ 0: 'all gates are green', 1: 'a gate is breached', 2: 'could not be asked', 3: 'not enough data to tell' }, [
        'partywall rollout check --since 24h && partywall rollout canary 50',
      ]),
    )
    .action(start<{ since?: (now: Date) => Date }>(check));

  rollout
    .command('watch')
    .description('Judge the roll-out again and again, and step back where a gate is breached, as the server does by itself.')
    .option('--every <seconds>', 'between two looks', parseEvery, 60)
    .option('--once', 'look once')
    .addHelpText(
      'after',
      helpEnding({ 0: 'nothing is breached, or watching has ended', 1: 'with --once: a gate is breached', 2: 'could not be asked' }, [
        'partywall rollout watch',
        'partywall rollout watch --once --json',
      ]),
    )
    .action(start<{ every: number; once?: true }>(watch));

  rollout
    .command('thresholds')
    .description('Show the bounds of the gates, or set one: thresholds set p99 300.')
    .argument('[set]', 'the word set')
    .argument('[name]', 'which')
    .argument('[value]', 'a number')
    .addHelpText(
      'after',
      helpEnding({ 0: 'shown, or set', 2: 'could not be set' }, ['partywall rollout thresholds', 'partywall rollout thresholds set p99 300']),
    )
    .action((verb: string | undefined, name: string | undefined, value: string | undefined, ...given: unknown[]) =>
      start((ctx) => thresholds(ctx, parseSet(verb, name, value)))(...given),
    );

  rollout
    .command('integrity')
    .description('Count the rows of each tenant and table, and look for rows out of place, as after a rollback. Reads only; keeps the count to compare with.')
    .option('--timeout <seconds>', 'for one question about a table', parseEvery, integrityTimeoutMs / 1_000)
    .option('--no-keep', 'do not keep the count')
    .addHelpText(
      'after',
      helpEnding({ 0: 'no row is out of place', 1: 'rows are out of place', 2: 'not everything could be asked' }, [
        'partywall rollout integrity',
        'partywall rollout integrity --timeout 600 --json',
      ]),
    )
    .action(start<{ timeout: number; keep: boolean }>(integrity));
}

async function check(ctx: CommandContext, { since }: { readonly since?: (now: Date) => Date }): Promise<Answer> {
  const client = await connect(rolloutUrl(ctx), { purpose: 'rollout' });
  try {
    const now = new Date();
    const found = await checkRollout(client, { now, since: since?.(now) });
    return { exit: checkExit[found.verdict], data: found, text: checkText(found) };
  } finally {
    await client.end();
  }
}

async function watch(ctx: CommandContext, { every, once }: { readonly every: number; readonly once?: true }): Promise<Answer> {
  const first = await look(ctx);
  const answer = { data: first, text: guardText(first) };
  if (once) return { exit: first.check.verdict === 'breach' ? 1 : 0, ...answer };
  return {
    exit: 0,
    ...answer,
    serve: async (signal) => {
      while (!signal.aborted) {
        await delay(every * 1_000, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return;
        // A database that cannot be reached for a while is no reason to stop watching it.
        const line = await look(ctx).then(guardText, (error: unknown) => `${new Date().toISOString()} could not look: ${String(error)}`);
        ctx.talk.line(line);
      }
    },
  };
}

async function look(ctx: CommandContext): Promise<GuardReport> {
  const { model } = await loadConfig(ctx);
  const client = await connect(rolloutUrl(ctx), { purpose: 'rollout' });
  try {
    return await guardRollout(client, { model, now: new Date(), signal: ctx.signal });
  } finally {
    await client.end();
  }
}

function thresholds(ctx: CommandContext, set: { readonly name: string; readonly value: number } | undefined): Promise<Answer> {
  return withService(ctx, async (operation) => {
    const found = set ? await setThreshold(operation, set) : await readThresholds(operation.database.pool);
    return { exit: 0, data: found, text: thresholdsText(found) };
  });
}

function integrity(ctx: CommandContext, { timeout, keep }: { readonly timeout: number; readonly keep: boolean }): Promise<Answer> {
  return withService(ctx, async ({ database, signal }) => {
    const client = await database.pool.connect();
    try {
      const found = await checkIntegrity(
        client,
        { model: database.model, now: database.clock() },
        {
          timeoutMs: timeout * 1_000,
          keep,
          signal,
          onProgress: (done, total, table) => ctx.talk.progress({ label: `counting ${table}`, done, total, unit: 'tables' }),
        },
      );
      return { exit: integrityExit[found.verdict], data: found, text: integrityText(found) };
    } finally {
      client.release();
    }
  });
}

function checkText({ verdict, gates, stage, stages, since, now }: RolloutCheck): string {
  const minutes = Math.round((now.getTime() - since.getTime()) / 60_000);
  const word = { green: 'green', breach: 'breached', not_enough: 'not enough data' }[verdict];
  const [latest] = stages;
  const stepped = latest?.automatic ? [`stepped back by itself ${latest.at.toISOString()}, ${latest.reason}`] : [];
  return [`${word}: ${stage} % enforced, judged by the last ${minutes} min`, ...stepped, ...gates.map(gateLine)].join('\n');
}

function gateLine({ name, verdict, value, bound, unit, reason, stepsBack }: Gate): string {
  const measured = value === null ? '' : `${value} ${unit} (bound ${bound}), `;
  const then = verdict === 'breach' ? (stepsBack ? '; steps back' : '; alerts') : '';
  return `${verdict.replace('_', ' ').padEnd(10)}  ${name.padEnd(21)}  ${measured}${reason}${then}`;
}

function guardText({ check: { now, verdict, stage, gates }, decision, change }: GuardReport): string {
  const lines = [`${now.toISOString()} ${verdict.replace('_', ' ')}, ${stage} % enforced`, ...gates.filter((gate) => gate.verdict === 'breach').map(gateLine)];
  if (decision.kind === 'step') lines.push(`stepped back from ${decision.from} % to ${decision.to} %: ${decision.reason}`);
  else if (verdict === 'breach') lines.push(`no step: ${decision.reason}`);
  if (change && change.unfinished.length > 0)
    lines.push(`${change.unfinished.length} tables are not watched yet: run \`partywall rollout observe\` as the owner`);
  return lines.join('\n');
}

function thresholdsText(found: Thresholds): string {
  return Object.entries(thresholdRules)
    .map(([name, { unit, what }]) => `${name.padEnd(21)}  ${`${found[name as keyof Thresholds]} ${unit}`.padEnd(16)}  ${what}`) // the keys of the constant
    .join('\n');
}

function integrityText({ verdict, tables, visited, of, comparedWith, kept }: IntegrityReport): string {
  const word = { sound: 'no row is out of place', damaged: 'rows are out of place', unknown: 'nothing was found, and not everything could be asked' }[verdict];
  return [
    ...tables.flatMap(tableLines),
    `${word}: ${visited} of ${of} tables asked whole, ${comparedWith ? `compared with ${comparedWith.toISOString()}` : 'no earlier count to compare with'}${kept ? '' : '; this count is not kept'}`,
  ].join('\n');
}

function tableLines({ table, rows, tenants, rowsBefore, fell, fellCount, problems, failures }: TableIntegrity): string[] {
  return [
    `${table}: ${rows ?? 'unknown'} rows of ${tenants} tenants${rowsBefore === null ? '' : `, ${rowsBefore} before`}`,
    ...problems.map(({ problem, via, rows: count }) => `  out of place: ${count} x ${problem}, by ${via}`),
    ...fell.map(({ tenant, before, now }) => `  fewer: tenant ${tenant} had ${before}, has ${now}`),
    ...(fellCount > fell.length ? [`  fewer: ${fellCount - fell.length} more tenants`] : []),
    ...failures.map((reason) => `  not asked: ${reason}`),
  ];
}

function parseSet(verb: string | undefined, name: string | undefined, value: string | undefined): { name: string; value: number } | undefined {
  if (verb === undefined) return undefined;
  const number = value === undefined || value.trim() === '' ? Number.NaN : Number(value);
  if (verb !== 'set' || name === undefined || Number.isNaN(number)) throw new InvalidArgumentError('write: thresholds set <name> <number>');
  return { name, value: number };
}

function parseSince(text: string): (now: Date) => Date {
  const [, count, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? [];
  const time = count === undefined ? new Date(text) : undefined;
  if (time && Number.isNaN(time.getTime())) throw new InvalidArgumentError('write 90m, 24h or 2d, or a time such as 2027-01-31T12:00:00Z');
  const ms = Number(count) * (unit === 'd' ? 86_400_000 : unit === 'h' ? 3_600_000 : 60_000);
  if (ms > sinceMaxMs) throw new InvalidArgumentError('counts are kept for eight days');
  return (now) => time ?? new Date(now.getTime() - ms);
}

function parseEvery(text: string): number {
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > everyMax) throw new InvalidArgumentError(`a whole number of seconds from 1 to ${everyMax}`);
  return seconds;
}
