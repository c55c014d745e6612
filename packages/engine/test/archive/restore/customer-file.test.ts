import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { exportForCustomer, readTenantFile, type TenantFileManifest } from '@partywall/engine';
import { Decrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, expect, test } from 'vitest';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { kept } from './kept-source.ts';

const { database, operation, tenant: addTenant } = await controlDatabase();
const folder = await mkdtemp(path.join(os.tmpdir(), 'partywall-customer-'));
afterAll(() => rm(folder, { recursive: true, force: true }));
const tenant = await addTenant('Customer');
await database.query(`insert into customers (tenant_id, name) select '${tenant}', 'secret name ' || n from generate_series(1, 3000) n`);
const source = await kept(operation(), tenant);

async function whole(pieces: AsyncGenerator<Buffer, TenantFileManifest>): Promise<{ file: Buffer; manifest: TenantFileManifest }> {
  const held: Buffer[] = [];
  for (;;) {
    const { done, value } = await pieces.next();
    if (done) return { file: Buffer.concat(held), manifest: value };
    held.push(value);
  }
}

test('a customer opens the file with their own key, each of several, and nobody else', async () => {
  const identities = [await generateX25519Identity(), await generateX25519Identity()];
  const recipients = await Promise.all(identities.map((identity) => identityToRecipient(identity)));
  const { file, manifest } = await whole(exportForCustomer(source, { recipients }, { kind: 'export' }));
  expect(manifest.rows).toBe(3001);
  for (const identity of identities) {
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    const name = path.join(folder, 'opened.tar.gz');
    await writeFile(name, await decrypter.decrypt(file));
    const read = await readTenantFile(name, { workFolder: folder });
    expect(read.manifest).toEqual(manifest);
    await read.close();
  }
  const stranger = new Decrypter();
  stranger.addIdentity(await generateX25519Identity());
  await expect(stranger.decrypt(file)).rejects.toThrow();
  const changed = Buffer.from(file);
  changed.writeUInt8(changed.readUInt8(changed.length - 100) ^ 1, changed.length - 100);
  const owner = new Decrypter();
  owner.addIdentity(identities[0] ?? '');
  await expect(owner.decrypt(changed)).rejects.toThrow();
});

test('what is no public key is refused before anything is read, and a secret one is not repeated', async () => {
  const identity = await generateX25519Identity();
  for (const recipients of [[], ['age1nonsense'], [identity]]) {
    const error: unknown = await whole(exportForCustomer(source, { recipients }, { kind: 'export' })).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'input_invalid' });
    expect(JSON.stringify(error) + String(error)).not.toContain(identity);
  }
});

test('in plain it is the tenant file itself', async () => {
  const { file, manifest } = await whole(exportForCustomer(source, { plain: true }, { kind: 'export' }));
  const name = path.join(folder, 'plain.tar.gz');
  await writeFile(name, file);
  const read = await readTenantFile(name, { workFolder: folder });
  expect(read.manifest).toEqual(manifest);
  await read.close();
});
