import { randomBytes } from 'node:crypto';
import { hmacBlocks } from '../../../engine/src/seal/seal-key.ts';
import { type WalledDatabase, walledDatabase } from '../walled-database.ts';

export interface SealedDatabase extends WalledDatabase {
  /** Adds a key and returns it as the pool takes it. */
  addKey(id: number, secret?: Buffer): Promise<string>;
  retire(id: number): Promise<void>;
  /** Closes to the application what enters without a seal, and opens it again. */
  seal(): Promise<void>;
  unseal(): Promise<void>;
}

const unsealed = 'partywall.enter(text, text), partywall.enter_since(text, bigint), partywall.enter_unit(text, text, bigint)';

/** A walled database with key 1, sealed as `partywall seal on` leaves it; written down by hand, as the wall is. */
export async function sealedDatabase(): Promise<SealedDatabase & { readonly key: string }> {
  const wall = await walledDatabase();
  const { database, app } = wall;
  const sealed: SealedDatabase = {
    ...wall,
    addKey: async (id, secret = randomBytes(32)) => {
      const { ipad, opad } = hmacBlocks({ id, secret });
      await database.query('insert into partywall.seal_keys (id, ipad, opad) values ($1, $2, $3)', [id, ipad, opad]);
      return `${id}:${secret.toString('base64url')}`;
    },
    retire: async (id) => {
      await database.query('update partywall.seal_keys set retired_at = now() where id = $1', [id]);
    },
    seal: async () => {
      await database.query(`begin; revoke execute on function ${unsealed} from ${app};
        insert into partywall.facts (name, value) values ('sealed', '{"role": "${app}"}'); commit`);
    },
    unseal: async () => {
      await database.query(`begin; grant execute on function ${unsealed} to ${app}; delete from partywall.facts where name = 'sealed'; commit`);
    },
  };
  const key = await sealed.addKey(1);
  await sealed.seal();
  return { ...sealed, key };
}
