import { createHmac } from 'node:crypto';
import type pg from 'pg';
import { system } from '../context.ts';
import { retried } from '../retried.ts';

/** What becomes of a message that was proved. */
export type Claim =
  | {
      readonly kind: 'claimed';
      /** Done, or free to be sent again. */
      settle(done: boolean): Promise<void>;
    }
  | { readonly kind: 'done' }
  | { readonly kind: 'busy' };

/** Remembers messages across processes, by `partywall.claim_message`. A tenant is no part of it: a message that was sent for one is not taken for another. */
export interface Messages {
  /** @param secrets all that are current, so that it is the same message whichever of them signed it, and in a process that has only one of them */
  claim(id: string, secrets: readonly string[]): Promise<Claim>;
}

export function rememberedMessages(pool: Pick<pg.Pool, 'query'>, given: { sender: string; leaseSeconds: number; keepSeconds: number }): Messages {
  const { sender, leaseSeconds, keepSeconds } = given;
  const ask = <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[]): Promise<pg.QueryResult<Row>> =>
    retried(() => system(`webhook of ${sender}`, () => pool.query<Row>(text, [...values])));
  return {
    claim: async (id, secrets) => {
      const digests = secrets.map((secret) => digestOf(secret, sender, id));
      const { rows } = await ask<{ claim: string }>('select partywall.claim_message($1, $2, $3) as claim', [digests, leaseSeconds, keepSeconds]);
      const claim = rows[0]?.claim ?? 'busy';
      if (claim === 'done' || claim === 'busy') return { kind: claim };
      return {
        kind: 'claimed',
        settle: async (done) => {
          await ask('select partywall.settle_message(digest, $2, $3) from unnest($1::bytea[]) as digest', [digests, claim, done]);
        },
      };
    },
  };
}

/**
 * Whoever has the database but no secret cannot name a message that is to come, and so cannot claim it first. A text with a space in
 * front of its first full stop is none that a message could be signed by.
 */
function digestOf(secret: string, sender: string, id: string): Buffer {
  return createHmac('sha256', secret)
    .update(`partywall claims ${JSON.stringify([sender, id])}`)
    .digest();
}
