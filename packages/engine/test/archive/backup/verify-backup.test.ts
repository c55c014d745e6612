import { randomInt } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { archiveFixture } from '../../../../../test/support/archive.ts';
import { controlDatabase } from '../../../../../test/support/control-database.ts';
import { manifestObject } from '../../../src/archive/archive.ts';
import { runBackup } from '../../../src/archive/backup/run-backup.ts';
import { verifyBackup } from '../../../src/archive/backup/verify-backup.ts';
import { tenantSubject } from '../../../src/keyring/data-keys.ts';

const fixture = await controlDatabase();
const { control, database, operation } = fixture;
const { archive, folder } = await archiveFixture({ keyring: control.keyring });
const store = path.join(folder, 'store');
const [amber, brass] = [await fixture.tenant('Amber'), await fixture.tenant('Brass')];
for (const tenant of [amber, brass]) {
  await database.query(`insert into customers (tenant_id, name) select $1, 'Customer ' || n from generate_series(1, 100) n`, [tenant]);
}
const first = await runBackup(operation(), archive, { reason: 'by hand' });
await database.query(`update customers set name = name || '.' where tenant_id = $1`, [amber]);
const second = await runBackup(operation(), archive, { reason: 'by hand' });

/** Keys of the objects that the store holds. */
async function objects(): Promise<string[]> {
  const entries = await fs.readdir(store, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => path.relative(store, path.join(entry.parentPath, entry.name)));
}

const packs = (await objects()).filter((key) => key.startsWith('packs/')).sort();
const check = () => verifyBackup(archive, second.id, { readData: true });

/** Runs `work` with an object that was tampered with, then puts it back. */
async function tampered(key: string, change: (bytes: Buffer) => Buffer | undefined, work: () => Promise<void>): Promise<void> {
  const file = path.join(store, key);
  const bytes = await fs.readFile(file);
  await fs.chmod(file, 0o600);
  const changed = change(Buffer.from(bytes));
  if (changed) await fs.writeFile(file, changed);
  else await fs.rm(file);
  try {
    await work();
  } finally {
    await fs.writeFile(file, bytes);
  }
}

const flipped = (bytes: Buffer): Buffer => {
  const at = randomInt(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << randomInt(8));
  return bytes;
};

test('a backup that is there is whole, packs of earlier backups included', async () => {
  expect(await check()).toMatchObject({ whole: true, damage: [], subjects: 3, sealed: 0, rows: second.rows });
  expect(await verifyBackup(archive, second.id)).toMatchObject({ whole: true, readData: false });
  // Brass did not change.
  expect(packs.filter((key) => key.includes(first.id)).length).toBeGreaterThan(packs.filter((key) => key.includes(second.id)).length);
});

test('every pack that it reaches is named when a bit of it flips', async () => {
  let reached = 0;
  for (const key of packs) {
    await tampered(key, flipped, async () => {
      const { whole, damage } = await check();
      if (whole) return;
      reached += 1;
      expect(damage.join('\n')).toContain(key);
    });
  }
  // The first packs of Amber and of the platform may be reached no more.
  expect(reached).toBeGreaterThanOrEqual(3);
});

test('a missing pack and a shorter one are named without reading data', async () => {
  const key = packs.find((each) => each.includes(second.id)) ?? '';
  await tampered(
    key,
    () => undefined,
    async () => {
      expect(await verifyBackup(archive, second.id)).toMatchObject({ whole: false, damage: [`${key}: it is missing`] });
    },
  );
  await tampered(
    key,
    (bytes) => bytes.subarray(0, -1),
    async () => {
      expect((await verifyBackup(archive, second.id)).damage.join()).toContain(`${key}: it has`);
    },
  );
});

test('packs that were exchanged are both named', async () => {
  const [left = '', right = ''] = packs.filter((key) => key.includes(first.id));
  const content = await fs.readFile(path.join(store, right));
  await tampered(
    left,
    () => content,
    async () => {
      const { damage } = await check();
      expect(damage.join('\n')).toContain(left);
    },
  );
});

test('pages and manifests that were changed are named, and the rest is looked at all the same', async () => {
  await tampered(`backups/${second.id}/pages`, flipped, async () => {
    const { whole, damage } = await check();
    expect({ whole, damage: damage.join() }).toMatchObject({ whole: false, damage: expect.stringContaining(`backups/${second.id}/pages`) });
  });
  await tampered(manifestObject(second.id), flipped, async () => {
    expect(await check()).toMatchObject({ whole: false, damage: [expect.stringContaining(`the manifest of backup ${second.id}`)] });
  });
  const other = await fs.readFile(path.join(store, manifestObject(second.id)));
  await tampered(
    manifestObject(first.id),
    () => other,
    async () => {
      expect((await check()).damage).toEqual([expect.stringContaining(`it is not the manifest that backup ${second.id} follows`)]);
    },
  );
});

test('all damage is listed, not the first', async () => {
  const [one = '', two = ''] = packs.filter((key) => key.includes(second.id));
  await tampered(
    one,
    () => undefined,
    () =>
      tampered(two, flipped, async () => {
        const { damage } = await check();
        expect(damage.join('\n')).toContain(one);
        expect(damage.join('\n')).toContain(two);
      }),
  );
});

test('a backup whose predecessor is gone is whole', async () => {
  await tampered(
    manifestObject(first.id),
    () => undefined,
    async () => {
      expect(await check()).toMatchObject({ whole: true });
    },
  );
});

test('an erased tenant is counted as sealed: its packs are there, and nobody can read them', async () => {
  await archive.keys.destroy(tenantSubject(brass));
  expect(await check()).toMatchObject({ whole: true, sealed: 1 });
});
