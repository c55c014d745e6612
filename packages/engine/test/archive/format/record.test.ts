import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type ArchiveRecord, parseRecord, signRecord } from '../../../src/archive/format/record.ts';
import { publicKeys, signingKey } from '../../../src/keyring/signing.ts';

const keyring = await mkdtemp(path.join(os.tmpdir(), 'partywall-record-'));
const foreign = await mkdtemp(path.join(os.tmpdir(), 'partywall-record-'));
afterAll(() => Promise.all([keyring, foreign].map((folder) => rm(folder, { recursive: true, force: true }))));
const key = await signingKey(keyring);
const known = await publicKeys(keyring);
const backup = '20261121t020000z-1f2e3d4c';
const of = { key: `backups/${backup}/retired-0.json`, backup };
const retired: ArchiveRecord = {
  format: 'partywall.retired/1',
  archive: '0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01',
  backup,
  retiredAt: '2026-11-21T02:00:00.000Z',
  subjects: ['c'.repeat(32)],
};

describe('a record', () => {
  test('is read as it was written', () => {
    expect(parseRecord(signRecord(retired, key), of, known)).toEqual(retired);
  });

  test('with any byte changed is refused', () => {
    const stored = signRecord(retired, key);
    for (let at = 0; at < stored.length; at += 1) {
      const changed = Buffer.from(stored);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(() => parseRecord(changed, of, known), `byte ${at}`).toThrow(expect.objectContaining({ code: 'archive_damaged' }));
    }
  });

  test('cut short, of another backup or signed with a key that is not in the keyring is refused', async () => {
    const stored = signRecord(retired, key);
    for (const length of [0, 1, stored.length - 1]) expect(() => parseRecord(stored.subarray(0, length), of, known)).toThrow(/malformed/);
    expect(() => parseRecord(stored, { ...of, backup: '20261121t020000z-00000000' }, known)).toThrow(/it is of backup/);
    expect(() => parseRecord(signRecord(retired, { ...key, id: 'signing-9:00' }), of, known)).toThrow(/not in the keyring/);
    const other = await signingKey(foreign);
    expect(() => parseRecord(signRecord(retired, { ...other, id: key.id }), of, known)).toThrow(/not of this content/);
  });
});
