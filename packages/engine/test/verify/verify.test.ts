import { beforeAll, expect, it } from 'vitest';
import { verifyExit } from '../../src/verify/report.ts';
import { verify } from '../../src/verify/verify.ts';
import { createSoundDatabase, type SoundDatabase } from './sound-database.ts';

let sound: SoundDatabase;
beforeAll(async () => {
  sound = await createSoundDatabase();
});

it('finds a walled database sound, having attacked every walled table', async () => {
  const report = await verify({ model: sound.model, adminUrl: sound.database.url, appUrl: sound.appUrl, systemUrl: sound.systemUrl });
  expect(report.findings).toEqual([]);
  expect(report.couldNotRun).toEqual([]);
  expect(verifyExit(report)).toBe(0);
});
