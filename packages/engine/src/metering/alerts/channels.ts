import type pg from 'pg';
import { appendAudit } from '../../audit/append.ts';
import { type Operation, transaction } from '../../db/operation.ts';
import { PartywallError } from '../../errors.ts';
import { type ChannelTarget, checkTarget, sealTarget, shownTarget } from './channel-target.ts';
import type { Routing } from './route.ts';

/** Where alerts are told, and which of them. What is secret in a target goes in and never comes out. */

const channelsMax = 50;

export interface AlertChannel extends Routing {
  readonly enabled: boolean;
  /** Origin of the address, or the recipients. */
  readonly shown: string;
  readonly changedAt: string;
}

export interface ChannelChange extends Routing {
  readonly enabled: boolean;
  /** Left out: stays as it is. */
  readonly target?: ChannelTarget | undefined;
}

const columns = 'name, kind, severities, rules, tenants, enabled, shown, changed_at';

/** All channels, in the order of their names: there are at most fifty. */
export async function listAlertChannels({ database }: Operation): Promise<AlertChannel[]> {
  const { rows } = await database.pool.query<ChannelRow>(`select ${columns} from partywall_control.alert_channels order by name`);
  return rows.map(toChannel);
}

/** @throws PartywallError alert_channel_unknown */
export async function showAlertChannel({ database }: Operation, name: string): Promise<AlertChannel> {
  const channel = await findChannel(database.pool, name);
  if (!channel) throw unknownChannel(name);
  return channel;
}

/**
 * Adds a channel or changes the one of this name. A target is replaced as a whole: a kept key never goes to another address.
 *
 * @throws PartywallError input_invalid (a new channel without a target, another kind without one, an address that is none, too many channels)
 */
export async function setAlertChannel(operation: Operation, change: ChannelChange): Promise<{ readonly channel: AlertChannel; readonly created: boolean }> {
  const { name, kind, target, severities, rules, tenants, enabled } = change;
  if (target) checkTarget(name, target);
  const box = target && (await sealTarget(operation.database.keyring, name, target));
  return transaction(operation.database.pool, async (client) => {
    await client.query('lock table partywall_control.alert_channels in share row exclusive mode');
    const before = await findChannel(client, name);
    if (!target && before?.kind !== kind) {
      throw new PartywallError('input_invalid', `setting alert channel ${name}: it has no target of kind ${kind} yet`, { hint: 'give a target' });
    }
    if (!before) await refuseMore(client, name);
    const values = [name, kind, severities, rules, tenants, enabled];
    if (target && box) {
      await client.query(
        `insert into partywall_control.alert_channels (name, kind, severities, rules, tenants, enabled, shown, target) values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (name) do update set kind = excluded.kind, severities = excluded.severities, rules = excluded.rules, tenants = excluded.tenants,
  enabled = excluded.enabled, shown = excluded.shown, target = excluded.target, changed_at = now()`,
        [...values, shownTarget(target), box],
      );
    } else {
      await client.query(
        `update partywall_control.alert_channels set kind = $2, severities = $3, rules = $4, tenants = $5, enabled = $6, changed_at = now() where name = $1`,
        values,
      );
    }
    await appendAudit(client, operation, {
      tenant: null,
      action: 'alert_channel.set',
      target: `alert_channel:${name}`,
      details: { kind, severities, rules, tenants, enabled, targetReplaced: target !== undefined },
    });
    const channel = await findChannel(client, name);
    if (!channel) throw unknownChannel(name);
    return { channel, created: before === undefined };
  });
}

/** Removes a channel with what is on its way through it. @throws PartywallError alert_channel_unknown */
export async function deleteAlertChannel(operation: Operation, name: string): Promise<void> {
  await transaction(operation.database.pool, async (client) => {
    const { rowCount } = await client.query('delete from partywall_control.alert_channels where name = $1', [name]);
    if (rowCount === 0) throw unknownChannel(name);
    await appendAudit(client, operation, { tenant: null, action: 'alert_channel.delete', target: `alert_channel:${name}` });
  });
}

/**
 * Puts a test message on its way through a channel, also through one that is switched off; returns the id of the delivery.
 *
 * @throws PartywallError alert_channel_unknown
 */
export async function enqueueTest(operation: Operation, name: string): Promise<string> {
  return transaction(operation.database.pool, async (client) => {
    if (!(await findChannel(client, name))) throw unknownChannel(name);
    const { rows } = await client.query<{ id: string }>(
      // Not due before whoever asked has sent it themselves.
      "insert into partywall_control.deliveries (channel, event, payload, due_at) values ($1, 'test', $2, now() + interval '1 minute') returning id",
      [name, JSON.stringify({ requestedBy: operation.actor.name ?? operation.actor.id })],
    );
    await appendAudit(client, operation, { tenant: null, action: 'alert_channel.test', target: `alert_channel:${name}` });
    return rows[0]?.id ?? '';
  });
}

interface ChannelRow extends Omit<AlertChannel, 'changedAt'> {
  readonly changed_at: Date;
}

function toChannel({ changed_at, ...row }: ChannelRow): AlertChannel {
  return { ...row, changedAt: changed_at.toISOString() };
}

async function findChannel(client: pg.ClientBase | pg.Pool, name: string): Promise<AlertChannel | undefined> {
  const { rows } = await client.query<ChannelRow>(`select ${columns} from partywall_control.alert_channels where name = $1`, [name]);
  return rows[0] && toChannel(rows[0]);
}

async function refuseMore(client: pg.ClientBase, name: string): Promise<void> {
  const { rows } = await client.query<{ there: boolean }>('select count(*) >= $1 as there from partywall_control.alert_channels', [channelsMax]);
  if (rows[0]?.there) throw new PartywallError('input_invalid', `setting alert channel ${name}: there are ${channelsMax} channels, which is the most`);
}

function unknownChannel(name: string): PartywallError {
  return new PartywallError('alert_channel_unknown', `looking for alert channel ${JSON.stringify(name)}`);
}
