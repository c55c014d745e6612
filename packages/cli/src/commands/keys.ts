import { type Keyring, type KeyringStatus, openKeyring, openStore, type Repair, rekeyTenant, repairKeyring, rotateKeys, type Store } from '@partywall/engine';
import type { Command } from 'commander';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { keyringSettings } from '../keys-settings.ts';
import { storeUrl } from '../store-url.ts';
import { helpEnding } from './help.ts';

interface ReasonFlags {
  readonly reason?: string;
}

interface RotateFlags extends ReasonFlags {
  readonly retire?: true;
  readonly yes?: true;
}

interface EscrowFlags {
  readonly restore?: true;
  readonly yes?: true;
}

export function registerKeys(program: Command, start: Start): void {
  const keys = program
    .command('keys')
    .summary('Keys that backups are encrypted with: list, rotate, verify, escrow.')
    .description(
      'The keys that backups are encrypted with: one for each tenant, wrapped by a key-encryption key, in a keybook outside the database, with a copy in escrow. ' +
        'PARTYWALL_KEYRING, PARTYWALL_KEYS, PARTYWALL_ESCROW and PARTYWALL_KEK say where.',
    );

  keys
    .command('list')
    .description('Say which versions there are, how many keys, and whether escrow has them all. Never prints a key. Needs no database.')
    .addHelpText(
      'after',
      helpEnding({ 0: 'listed, and escrow is the same', 1: 'escrow differs, or a key waits to be taken away', 2: 'the keyring could not be read' }, [
        'partywall keys list',
      ]),
    )
    .action(start<object>((ctx) => withKeyring(ctx, async (open) => statusAnswer(await open.status()))));

  keys
    .command('verify')
    .description('Prove that a backup could run: the keybook opens, escrow can be written, is elsewhere and has everything. Needs no database.')
    .addHelpText('after', helpEnding({ 0: 'proved', 1: 'a key waits to be taken away', 2: 'not so; the message says what differs' }, ['partywall keys verify']))
    .action(start<object>((ctx) => withKeyring(ctx, async (open) => statusAnswer(await open.verify()))));

  keys
    .command('rotate')
    .description('Make a new key-encryption key and wrap every key with it. Backups stay as they are and readable. Recorded in the audit log.')
    .option('--retire', 'destroy the key-encryption keys before it: older copies of the keybook open no more')
    .option('--reason <text>', 'why, for the audit log')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'rotated', 1: 'rotated, and a key waits to be taken away', 2: 'could not be rotated; nothing has changed' }, [
        'partywall keys rotate --reason "yearly rotation"',
      ]),
    )
    .action(start<RotateFlags>(rotate));

  keys
    .command('rekey')
    .description('Give a tenant a new key for what is backed up from now on. Older backups of it stay readable. Recorded in the audit log.')
    .argument('<tenant>', 'key of the tenant')
    .option('--reason <text>', 'why, for the audit log')
    .addHelpText(
      'after',
      helpEnding({ 0: 'made', 1: 'the tenant has no key yet', 2: 'could not be made' }, ['partywall keys rekey 2f1c9a4e-8f0b-4f6e-9a55-0d6a1f7f2b11']),
    )
    .action((tenant: string, ...given: unknown[]) => start<ReasonFlags>((ctx, flags) => rekey(ctx, tenant, flags))(...given));

  keys
    .command('escrow')
    .description(
      'Copy to escrow what it lacks, or with --restore put back from it what the keyring or the keybook lost. Neither is written over by an older one. Needs no database.',
    )
    .option('--restore', 'from escrow, not to it')
    .option('--yes', 'do not ask')
    .addHelpText(
      'after',
      helpEnding({ 0: 'both are the same now', 2: 'refused; nothing was written over' }, ['partywall keys escrow', 'partywall keys escrow --restore']),
    )
    .action(start<EscrowFlags>(escrow));
}

function rotate(ctx: CommandContext, flags: RotateFlags): Promise<Answer> {
  return withControl(ctx, (operation) =>
    withKeyring(ctx, async (keys) => {
      if (flags.retire) await confirmed(ctx, flags, 'rotate, and destroy the key-encryption keys before: older copies of the keybook will open no more');
      const { keks, ...rotation } = await rotateKeys(operation, keys, { retire: flags.retire === true, reason: flags.reason });
      return {
        exit: keks.pending.length === 0 ? 0 : 1,
        data: { ...rotation, keks },
        text: [
          `${rotation.keys} keys are wrapped with key-encryption key ${rotation.kek} (write ${rotation.generation} of the keybook)`,
          ...pendingLines(keks.pending),
        ].join('\n'),
      };
    }),
  );
}

function rekey(ctx: CommandContext, tenant: string, { reason }: ReasonFlags): Promise<Answer> {
  return withControl(ctx, (operation) =>
    withKeyring(ctx, async (keys) => {
      const { id, ref } = await rekeyTenant(operation, keys, { tenant, reason });
      return { exit: 0, data: { tenant, key: id, ref }, text: `tenant ${tenant} has key ${id} for what is backed up from now on` };
    }),
  );
}

async function escrow(ctx: CommandContext, flags: EscrowFlags): Promise<Answer> {
  const settings = keyringSettings(ctx);
  if (flags.restore) await confirmed(ctx, flags, `restore the keyring ${settings.keyring} and its keybook from escrow`);
  const repair = await withArchiveStore(ctx, (apart) => repairKeyring(settings, flags.restore ? 'restore' : 'renew', apart));
  return { exit: 0, data: repair, text: repairText(repair, flags) };
}

function repairText({ book, files, generation }: Repair, { restore }: EscrowFlags): string {
  const place = restore ? 'the keyring' : 'escrow';
  return [
    `the keybook of ${place} ${book === 'written' ? 'was written' : 'is the same'} (write ${generation})`,
    ...files.map((file) => `  ${file} was copied to ${place}`),
  ].join('\n');
}

async function withKeyring(ctx: CommandContext, work: (keys: Keyring) => Promise<Answer>): Promise<Answer> {
  return withArchiveStore(ctx, async (apart) => {
    const keys = await openKeyring(keyringSettings(ctx), apart);
    try {
      return await work(keys);
    } finally {
      await keys.close();
    }
  });
}

/** The archive, where one is set: escrow must not be in it. */
async function withArchiveStore<Result>(ctx: CommandContext, work: (apart: readonly Store[]) => Promise<Result>): Promise<Result> {
  const url = storeUrl(ctx, 'PARTYWALL_ARCHIVE');
  if (url === undefined) return work([]);
  const store = await openStore(url, { env: ctx.env, signal: ctx.signal });
  try {
    return await work([store]);
  } finally {
    await store.close();
  }
}

function statusAnswer(status: KeyringStatus): Answer {
  const problems = escrowLines(status);
  const pending = pendingLines(status.pending);
  const used =
    status.kek === null
      ? ['no keybook has been written; the first backup makes it']
      : [
          `key-encryption key ${status.kek} is in use (write ${status.generation} of the keybook); there are ${status.keks.join(', ')}`,
          `${status.keys.active} keys in use and ${status.keys.retired} older ones, of ${status.subjects} tenants (the platform counts as one)`,
          `${status.erased} tenants were erased`,
        ];
  return {
    exit: problems.length + pending.length === 0 ? 0 : 1,
    data: status,
    text: [...used, ...(problems.length === 0 ? ['escrow is the same'] : problems), ...pending].join('\n'),
  };
}

function escrowLines({ escrow: { copies, files } }: KeyringStatus): string[] {
  return [
    ...(copies.kind === 'differs' ? [`escrow: ${copies.reason}`] : []),
    ...(copies.kind === 'interrupted' ? ['escrow: one write ahead of the keybook; the next change carries it on'] : []),
    ...(files?.different ?? []).map((name) => `escrow: ${name} is not the same`),
    ...(files?.missingInEscrow ?? []).map((name) => `escrow: ${name} is missing; the next change copies it`),
    ...(files?.missingInFolder ?? []).map((name) => `the keyring lost ${name}; escrow has it`),
  ];
}

function pendingLines(pending: readonly number[]): string[] {
  return pending.map((version) => `key-encryption key ${version} must be taken away: with PARTYWALL_KEK=env, remove PARTYWALL_KEK_${version} everywhere`);
}
