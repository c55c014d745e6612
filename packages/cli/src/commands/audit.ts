import { type AuditAnchor, type AuditFilter, type AuditRecord, anchorAudit, listAnchors, type Operation, pruneAudit, searchAudit } from '@partywall/engine';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { confirmed } from '../confirm.ts';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { parseTime, registerAuditFiles } from './audit-files.ts';
import { helpEnding } from './help.ts';

interface SearchFlags {
  readonly tenant?: string;
  readonly platform?: true;
  readonly actor?: string;
  readonly action?: string;
  readonly outcome?: AuditRecord['outcome'];
  readonly target?: string;
  readonly from?: string;
  readonly to?: string;
  readonly limit: number;
}

interface PruneFlags {
  readonly dryRun?: true;
  readonly yes?: true;
}

const searchLimit = { default: 50, max: 1_000 };

export function registerAudit(program: Command, start: Start): void {
  const audit = program
    .command('audit')
    .summary('Search, verify, export, anchor and prune the audit log.')
    .description('What was done and what was refused: one chain of hashes for each tenant, and one for the platform.');

  audit
    .command('search')
    .description('List records, newest first: of one tenant, of the platform, or of all chains merged.')
    .addOption(new Option('--tenant <key>', "only this tenant's").conflicts('platform'))
    .option('--platform', 'only what belongs to no tenant')
    .option('--actor <id>', 'only what this person, key or operator did')
    .option('--action <beginning>', 'only actions that begin with this, such as `tenant.`')
    .addOption(new Option('--outcome <outcome>', 'only what was done, or what was denied').choices(['done', 'denied']))
    .option('--target <text>', 'only records whose target has this in it')
    .option('--from <time>', 'from this time on: a day (its start, UTC), or a time with its zone', parseTime)
    .option('--to <time>', 'before this time', parseTime)
    .option('--limit <records>', `at most so many, up to ${searchLimit.max}`, parseLimit, searchLimit.default)
    .addHelpText(
      'after',
      helpEnding({ 0: 'listed', 2: 'could not be asked' }, [
        'partywall audit search --outcome denied --from 2026-12-01',
        'partywall audit search --tenant 42 --action tenant. --json',
      ]),
    )
    .action(start<SearchFlags>((ctx, flags) => withControl(ctx, (operation) => search(operation, flags))));

  registerAuditFiles(audit, start);

  audit
    .command('anchor')
    .description(
      'Sign where every chain stands now, and print the latest anchor of each as lines of JSON. Keep them where the owner of the database cannot ' +
        'change them: `partywall audit verify --anchors` holds the chains to them.',
    )
    .addHelpText('after', helpEnding({ 0: 'signed', 2: 'could not be signed' }, ['partywall audit anchor > anchors-2026-12-01.jsonl']))
    .action(start((ctx) => withControl(ctx, anchor)));

  audit
    .command('prune')
    .description(
      'Remove the records that are older than the plan of their tenant asks to keep, and leave a signed checkpoint, so that the rest still verifies. ' +
        'A legal hold keeps all records of its tenant.',
    )
    .option('--dry-run', 'count what would go, remove nothing')
    .option('--yes', 'go on without asking')
    .addHelpText(
      'after',
      helpEnding({ 0: 'pruned', 2: 'could not be pruned, or not confirmed' }, ['partywall audit prune --dry-run', 'partywall audit prune --yes']),
    )
    .action(start<PruneFlags>((ctx, flags) => withControl(ctx, (operation) => prune(ctx, operation, flags))));
}

async function search(operation: Operation, { limit, platform, tenant, ...filter }: SearchFlags): Promise<Answer> {
  const wanted: AuditFilter = { ...filter, tenant: platform ? null : tenant };
  const records = await searchAudit(operation, wanted, { limit });
  const text = records.length === 0 ? 'no records' : records.map(recordText).join('\n');
  return { exit: 0, data: { items: records }, text };
}

async function anchor(operation: Operation): Promise<Answer> {
  const { chains, signed } = await anchorAudit(operation);
  const anchors: AuditAnchor[] = [];
  for await (const one of listAnchors(operation)) anchors.push(one);
  return { exit: 0, data: { chains, signed, anchors }, text: anchors.map((one) => JSON.stringify(one)).join('\n') };
}

async function prune(ctx: CommandContext, operation: Operation, flags: PruneFlags): Promise<Answer> {
  const plan = await pruneAudit(operation, { dryRun: true });
  const planned = `${plan.removed} records of ${plan.pruned} chains (${plan.chains.visited} of ${plan.chains.of} visited, ${plan.held} held)`;
  if (flags.dryRun) return { exit: 0, data: { dryRun: true, ...plan }, text: `would remove ${planned}` };
  if (plan.removed > 0) await confirmed(ctx, flags, `remove ${planned}`);
  const report = await pruneAudit(operation);
  const { visited, of } = report.chains;
  return {
    exit: 0,
    data: { dryRun: false, ...report },
    text: `removed ${report.removed} records of ${report.pruned} chains; visited ${visited} of ${of}, ${report.held} held`,
  };
}

function recordText({ tenantId, seq, at, actor, address, action, target, outcome, reason, details }: AuditRecord): string {
  const who = `${actor.kind}:${actor.name ?? actor.id}${address === null ? '' : ` from ${address}`}`;
  const more = [target, reason, Object.keys(details).length === 0 ? null : JSON.stringify(details)].filter((part) => part !== null);
  return printable([`${at}  ${tenantId ?? 'platform'} #${seq}`, outcome === 'denied' ? 'DENIED' : 'done', action, who, ...more].join('  '));
}

/** Records hold what requests sent: what steers a terminal, or turns the direction of text, is shown and not obeyed. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d{1,4}$/.test(text) || limit < 1 || limit > searchLimit.max) throw new InvalidArgumentError(`write a number from 1 to ${searchLimit.max}`);
  return limit;
}
