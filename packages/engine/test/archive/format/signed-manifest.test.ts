import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { canonicalJson } from '../../../src/archive/format/canonical-json.ts';
import type { Manifest } from '../../../src/archive/format/manifest.ts';
import { parseManifest, signManifest } from '../../../src/archive/format/signed-manifest.ts';
import { publicKeys, signingKey } from '../../../src/keyring/signing.ts';

const keyring = await mkdtemp(path.join(os.tmpdir(), 'partywall-manifest-'));
const foreign = await mkdtemp(path.join(os.tmpdir(), 'partywall-manifest-'));
afterAll(() => Promise.all([keyring, foreign].map((folder) => rm(folder, { recursive: true, force: true }))));
const key = await signingKey(keyring);
const known = await publicKeys(keyring);
const id = '20261121t020000z-1f2e3d4c';

const manifest: Manifest = {
  format: 'partywall.backup',
  version: { major: 1, minor: 0 },
  encryption: 'aes-256-gcm-stream/1',
  archive: '0a1de7f0-5d0c-4b5e-9a57-3c1f6b7a2e01',
  id,
  scope: 'all',
  classes: ['database'],
  reason: 'by hand',
  at: '2026-11-21T02:00:00.000Z',
  finishedAt: '2026-11-21T02:00:09.000Z',
  source: { engine: 'postgresql', version: '18.4', lsn: '0/16B3748', lineage: 'a', settings: { DateStyle: 'ISO, YMD' } },
  model: 'a'.repeat(64),
  schema: 'b'.repeat(64),
  tables: [
    {
      name: 'public.customers',
      class: 'database',
      kind: 'rows',
      columns: [{ name: 'id', type: 'uuid' }],
      key: ['id'],
      tenantColumn: 'tenant_id',
      rows: 7,
    },
  ],
  sequences: [{ name: 'public.customers_id_seq', last: '7', called: true }],
  subjects: [
    {
      subject: 'c'.repeat(32),
      page: { backup: id, offset: 0, bytes: 400, sha256: 'd'.repeat(64) },
      packs: [{ backup: id, pack: 0, bytes: 900, sha256: 'e'.repeat(64) }],
      rows: 7,
      bytes: 700,
    },
  ],
  left: [],
  previous: null,
};

/** Signed by whoever has the keyring, whatever it says. */
function signed(changes: Record<string, unknown>): Buffer {
  const changed = { ...manifest, ...changes };
  const text = canonicalJson(JSON.parse(JSON.stringify(changed)));
  return Buffer.from(`{"manifest":${text},"signature":{"ed25519":"${key.sign(text).toString('base64')}","key":"${key.id}"}}`);
}

describe('a manifest', () => {
  test('is read back as it was signed', () => {
    expect(parseManifest(signManifest(manifest, key), id, known)).toEqual(manifest);
  });

  test('with any byte flipped is damaged or foreign, never believed', () => {
    const stored = signManifest(manifest, key);
    fc.assert(
      fc.property(fc.nat({ max: stored.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, mask) => {
        const bytes = Buffer.from(stored);
        bytes[at] = (bytes[at] ?? 0) ^ mask;
        expect(() => parseManifest(bytes, id, known)).toThrow(expect.objectContaining({ code: expect.stringMatching(/^archive_(damaged|foreign)$/) }));
      }),
      { numRuns: 500 },
    );
  });

  test('cut short, with white space, or with something behind it is damaged', () => {
    const stored = signManifest(manifest, key).toString();
    for (const text of [stored.slice(0, -1), stored.slice(0, 40), `${stored}\n`, stored.replace(':', ': '), '']) {
      expect(() => parseManifest(Buffer.from(text), id, known)).toThrow(expect.objectContaining({ code: 'archive_damaged' }));
    }
  });

  test('of a newer major version, of another format, or without encryption is foreign, also when it is signed', () => {
    for (const changes of [{ version: { major: 2, minor: 0 } }, { format: 'tar' }, { encryption: 'none' }, { encryption: undefined }]) {
      expect(() => parseManifest(signed(changes), id, known)).toThrow(expect.objectContaining({ code: 'archive_foreign' }));
    }
  });

  test('put in the place of another backup is damaged', () => {
    expect(() => parseManifest(signManifest(manifest, key), '20261122t020000z-1f2e3d4c', known)).toThrow(
      'it is the manifest of backup 20261121t020000z-1f2e3d4c',
    );
  });

  test('signed with a key that is not in the keyring is damaged, although it is signed', async () => {
    const stranger = await signingKey(foreign);
    expect(() => parseManifest(signManifest(manifest, stranger), id, known)).toThrow('which is not in the keyring');
  });

  test('holds names of objects that cannot lead out of the archive', () => {
    for (const backup of ['../../etc', '20261121t020000z-1f2e3d4c/..', '']) {
      const subjects = [{ ...manifest.subjects[0], page: { ...manifest.subjects[0]?.page, backup } }];
      expect(() => parseManifest(signed({ subjects }), id, known)).toThrow(expect.objectContaining({ code: 'archive_damaged' }));
    }
  });
});

describe('canonical JSON', () => {
  test('is the same text for the same value, in whatever order its members were written', () => {
    expect(canonicalJson({ b: [1, null, true], a: { d: '\u2028é', c: undefined } })).toBe('{"a":{"d":"\u2028é"},"b":[1,null,true]}');
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        const plain = JSON.parse(JSON.stringify(value), (_, member: unknown) => (typeof member === 'number' ? Math.trunc(member % 1e9) || 0 : member));
        const text = canonicalJson(plain);
        expect(canonicalJson(JSON.parse(text))).toBe(text);
        expect(JSON.parse(text)).toEqual(plain);
      }),
    );
  });

  test('has none for numbers and texts that others would write otherwise', () => {
    for (const value of [1.5, Number.NaN, 2 ** 53, '\ud800']) expect(() => canonicalJson(value)).toThrow(TypeError);
  });
});
