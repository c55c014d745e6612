import fs from 'node:fs/promises';
import path from 'node:path';
import {
  type AlertChannel,
  deleteAlertChannel,
  enqueueTest,
  listAlertChannels,
  PartywallError,
  parseChannel,
  setAlertChannel,
  showDelivery,
  sqlState,
} from '@partywall/engine';
import type { Command } from 'commander';
import type { Answer, CommandContext, Start } from '../context.ts';
import { withControl } from '../control.ts';
import { deliveryOptions } from '../delivery.ts';
import { helpEnding } from './help.ts';

/** `partywall alerts channels`: a target holds secrets, so it comes from a file and never from the command line. */
export function registerAlertChannels(alerts: Command, start: Start): void {
  const channels = alerts
    .command('channels')
    .summary('Show where alerts are told; set, test and remove channels.')
    .addHelpText('after', helpEnding({ 0: 'shown', 2: 'could not be asked' }, ['partywall alerts channels', 'partywall alerts channels set ops channel.json']))
    .action(start<object>(list));
  channels
    .command('set')
    .summary('Add a channel, or change it.')
    .description('Add a channel, or change it: the file holds what the body of PUT /api/admin/alert-channels/<name> does (docs/guide/alerts.md).')
    .argument('<name>', 'lower-case letters, digits, _ and -')
    .argument('<file>', 'JSON')
    .addHelpText('after', helpEnding({ 0: 'set', 2: 'could not be set' }, ['partywall alerts channels set ops channel.json']))
    .action((name: string, file: string, ...given: unknown[]) => start<object>((ctx) => set(ctx, name, file))(...given));
  channels
    .command('test')
    .summary('Send a test message now.')
    .argument('<name>', 'of the channel')
    .addHelpText('after', helpEnding({ 0: 'delivered', 1: 'not delivered', 2: 'could not be asked' }, ['partywall alerts channels test ops']))
    .action((name: string, ...given: unknown[]) => start<object>((ctx) => test(ctx, name))(...given));
  channels
    .command('remove')
    .summary('Remove a channel, with what is on its way through it.')
    .argument('<name>', 'of the channel')
    .addHelpText('after', helpEnding({ 0: 'removed', 2: 'there is none of this name' }, ['partywall alerts channels remove ops']))
    .action((name: string, ...given: unknown[]) => start<object>((ctx) => remove(ctx, name))(...given));
}

function list(ctx: CommandContext): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const items = await listAlertChannels(operation);
    return { exit: 0, data: { items }, text: items.length === 0 ? 'no channels: nobody is told' : items.map(lineOf).join('\n') };
  });
}

function set(ctx: CommandContext, name: string, file: string): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const { channel, created } = await setAlertChannel(operation, parseChannel(name, await readJson(path.resolve(ctx.cwd, file))));
    return { exit: 0, data: channel, text: `${created ? 'added' : 'changed'} ${lineOf(channel)}` };
  });
}

function test(ctx: CommandContext, name: string): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    const options = await deliveryOptions(ctx);
    // Loaded here, so that the other verbs start without a web server.
    const { deliverDue } = await import('@partywall/server');
    const id = await enqueueTest(operation, name);
    await deliverDue(operation.database, options, { id });
    const delivery = await showDelivery(operation.database, id);
    const delivered = delivery.status === 'delivered';
    return { exit: delivered ? 0 : 1, data: delivery, text: delivered ? `delivered through ${name}` : `not delivered through ${name}: ${delivery.failure}` };
  });
}

function remove(ctx: CommandContext, name: string): Promise<Answer> {
  return withControl(ctx, async (operation) => {
    await deleteAlertChannel(operation, name);
    return { exit: 0, data: { removed: name }, text: `removed ${name}` };
  });
}

function lineOf({ name, kind, shown, severities, rules, tenants, enabled }: AlertChannel): string {
  const of = [rules && `rules ${rules.join(', ')}`, tenants && `${tenants.length} tenants`, !enabled && 'off'].filter(Boolean);
  return [`${name}: ${kind} to ${shown}, ${severities.join(' and ')}`, ...of].join('; ');
}

/** What the file says; its text is not repeated, because it holds secrets. */
async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await fs.readFile(file, 'utf8'));
  } catch (error) {
    const reason = sqlState(error) === 'ENOENT' ? 'there is no such file' : error instanceof SyntaxError ? 'it is not JSON' : 'it cannot be read';
    throw new PartywallError('usage', `reading ${file}: ${reason}`);
  }
}
