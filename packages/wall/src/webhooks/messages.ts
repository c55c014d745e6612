import { createHash } from 'node:crypto';
import type pg from 'pg';
import { system } from '../context.ts';

/** What becomes of a message that was proved. */
export type Claim = { readonly kind: 'claimed'; readonly token: string } | { readonly kind: 'done' } | { readonly kind: 'busy' };

/** Remembers messages across processes, by `partywall.claim_message`. A tenant is no part of it: a message that was sent for one is not taken for another. */
export interface Messages {
  claim(id: string): Promise<Claim>;
  /** Done, or free to be sent again. */
  settle(id: string, token: string, done: boolean): Promise<void>;
}

export function rememberedMessages(pool: Pick<pg.Pool, 'query'>, given: { sender: string; leaseSeconds: number; keepSeconds: number }): Messages {
  const { sender, leaseSeconds, keepSeconds } = given;
  const purpose = `webhook of ${sender}`;
  const digest = (id: string): Buffer =>
    createHash('sha256')
      .update(JSON.stringify([sender, id]))
      .digest();
  return {
    claim: async (id) => {
      const { rows } = await system(purpose, () =>
        pool.query<{ claim: string }>('select partywall.claim_message($1, $2, $3) as claim', [digest(id), leaseSeconds, keepSeconds]),
      );
      const claim = rows[0]?.claim ?? 'busy';
      return claim === 'done' || claim === 'busy' ? { kind: claim } : { kind: 'claimed', token: claim };
    },
    settle: async (id, token, done) => {
      await system(purpose, () => pool.query('select partywall.settle_message($1, $2, $3)', [digest(id), token, done]));
    },
  };
}
