import fs from 'node:fs/promises';
import path from 'node:path';
import { changeSeal, connect, PartywallError, parseSealKey, readSealState, type SealPlan, type SealRequest, type SealState } from '@partywall/engine';
import { type Command, InvalidArgumentError } from 'commander';
import { loadConfig } from '../config-file.ts';
import { type Answer, type CommandContext, databaseUrl, type Start } from '../context.ts';
import { operatorName } from '../control.ts';
import { helpEnding } from './help.ts';

interface SealFlags {
  readonly dryRun?: true;
  readonly keyFile?: string;
}

export function registerSeal(program: Command, start: Start): void {
  const seal = program
    .command('seal')
    .summary('Let the application enter a tenant with a seal alone.')
    .description(
      'A sealed database takes the word of the application’s role for a tenant only with a code that its pool makes with a key, so that SQL injected ' +
        'into one tenant’s request cannot name another. In this order: rotate (makes a key), deploy it as PARTYWALL_SEAL_KEY, on. As the owner of schema ' +
        'partywall or a superuser; recorded in the audit log.',
    );
  const verb = (name: string, description: string): Command => seal.command(name).description(description);
  const ends = (example: string): string => helpEnding({ 0: 'done, or nothing to do', 1: 'refused, nothing was changed', 2: 'could not run' }, [example]);

  verb('status', 'Whether the database is sealed, and which keys it has.')
    .addHelpText('after', helpEnding({ 0: 'sealed', 1: 'not sealed, or open all the same', 2: 'could not run' }, ['partywall seal status --json']))
    .action(start<SealFlags>(status));
  verb('on', 'Close what enters a tenant without a seal. Running transactions go on.')
    .option('--dry-run', 'print the plan, change nothing')
    .addHelpText('after', ends('partywall seal on --dry-run'))
    .action(start<SealFlags>((ctx, flags) => change(ctx, { kind: 'on' }, flags)));
  verb('off', 'Let the application enter without a seal again.')
    .option('--dry-run', 'print the plan, change nothing')
    .addHelpText('after', ends('partywall seal off'))
    .action(start<SealFlags>((ctx, flags) => change(ctx, { kind: 'off' }, flags)));
  verb('rotate', 'Make a key. It is printed once, or written to a file that only you can read; the older ones stay good until they are retired.')
    .option('--key-file <path>', 'write the key to this new file in place of printing it')
    .option('--dry-run', 'print the plan, change nothing')
    .addHelpText('after', ends('partywall seal rotate --key-file seal.key'))
    .action(start<SealFlags>((ctx, flags) => change(ctx, { kind: 'rotate' }, flags)));
  verb('add', 'Give the database a key that was made for another one: of a placement, or before it was restored.')
    .requiredOption('--key-file <path>', 'file with the key')
    .option('--dry-run', 'print the plan, change nothing')
    .addHelpText('after', ends('partywall seal add --key-file seal.key --url postgresql://postgres:secret@db2/crm'))
    .action(start<SealFlags>(add));
  verb('retire', 'Refuse the seals of a key from now on, for good.')
    .argument('<key>', 'number of the key', keyNumber)
    .option('--dry-run', 'print the plan, change nothing')
    .addHelpText('after', ends('partywall seal retire 1'))
    .action(retire(start));
}

/** The frame gives an action its options; the number comes before them. */
function retire(start: Start): (...given: unknown[]) => Promise<void> {
  return (...given) => start<SealFlags>((ctx, flags) => change(ctx, { kind: 'retire', id: Number(given[0]) }, flags))(...given);
}

function keyNumber(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('a key has a number, as `partywall seal status` prints it');
}

async function status(ctx: CommandContext): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const client = await connect(databaseUrl(ctx), { purpose: 'command' });
  try {
    const state = await readSealState(client, model.roles.app);
    return { exit: isSealed(state, model.roles.app) ? 0 : 1, data: state, text: stateText(state, model.roles.app) };
  } finally {
    await client.end();
  }
}

async function add(ctx: CommandContext, flags: SealFlags): Promise<Answer> {
  const file = path.resolve(ctx.cwd, flags.keyFile ?? '');
  const text = await fs.readFile(file, 'utf8').catch((cause: unknown) => {
    throw new PartywallError('usage', `reading the key of the seal from ${file}: there is no such file`, { cause });
  });
  return change(ctx, { kind: 'add', key: parseSealKey(text) }, { ...(flags.dryRun && { dryRun: true }) });
}

async function change(ctx: CommandContext, request: SealRequest, { dryRun = false, keyFile }: { dryRun?: boolean; keyFile?: string }): Promise<Answer> {
  const { model } = await loadConfig(ctx);
  const client = await connect(databaseUrl(ctx), { purpose: 'command' });
  let key: string | undefined;
  try {
    const { plan, state } = await changeSeal(client, model, request, {
      dryRun,
      actor: { kind: 'operator', id: operatorName(ctx) },
      onKey: async (text) => {
        if (request.kind !== 'rotate') return;
        if (keyFile === undefined) key = text;
        else await writeKey(path.resolve(ctx.cwd, keyFile), text);
      },
    });
    const made = key === undefined ? [] : [`PARTYWALL_SEAL_KEY=${key}`];
    const lines = [...planLines(plan, dryRun), ...plan.notes.map((note) => `note: ${note}`), ...made];
    return { exit: 0, data: { dryRun, ...plan, ...(key !== undefined && { key }), state }, text: lines.join('\n') };
  } finally {
    await client.end();
  }
}

/** Never over a key that is there. */
async function writeKey(file: string, text: string): Promise<void> {
  try {
    await fs.writeFile(file, `${text}\n`, { mode: 0o600, flag: 'wx' });
  } catch (cause) {
    throw new PartywallError('usage', `writing the key of the seal to ${file}: ${cause instanceof Error ? cause.message : ''}`, {
      cause,
      hint: 'name a file that is not there yet; no key was made',
    });
  }
}

function isSealed(state: SealState, app: string): boolean {
  return state.sealed === app && state.isProtected && !state.open;
}

function planLines({ steps }: SealPlan, dryRun: boolean): string[] {
  if (steps.length === 0) return ['nothing to do'];
  return steps.map(({ title, reason }) => `${dryRun ? 'would ' : ''}${title}: ${reason}`);
}

function stateText(state: SealState, app: string): string {
  const open = state.open ? ', and it may enter without one all the same: run `partywall seal on`' : '';
  const seal = state.sealed === undefined ? `not sealed: ${app} enters a tenant by its key` : `sealed: ${state.sealed} enters with a seal${open}`;
  const kept = state.isProtected ? 'the context is protected' : 'the context is in a setting that any role may set';
  const keys = state.keys.map(
    ({ id, createdAt, retiredAt }) => `key ${id}  made ${createdAt.toISOString()}${retiredAt ? `, retired ${retiredAt.toISOString()}` : ''}`,
  );
  return [seal, kept, ...(keys.length > 0 ? keys : ['no key: `partywall seal rotate` makes one'])].join('\n');
}
