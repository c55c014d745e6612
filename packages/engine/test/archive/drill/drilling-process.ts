import { deserialize } from 'node:v8';
import { type ArchiveSettings, controlPool, drillBackup, openArchive, type TenancyModel } from '../../../src/index.ts';

/** A process that drills and ends itself by SIGKILL before a step. Given serialized, because a model holds maps. */
export interface DrillingProcess {
  readonly settings: Omit<ArchiveSettings, 'clock' | 'signal' | 'source'>;
  readonly service: string;
  readonly model: TenancyModel;
  readonly into?: string | undefined;
  readonly killBefore: string;
}

const given: DrillingProcess = deserialize(Buffer.from(process.argv[2] ?? '', 'base64'));
const { settings, service, model, into, killBefore } = given;
const clock = (): Date => new Date();
const archive = await openArchive({ ...settings, clock });
const pool = controlPool(service, { purpose: 'test' });
await drillBackup(
  { database: { pool, model, clock, keyring: settings.keyring }, actor: { kind: 'operator', id: 'test' } },
  archive,
  { into, selection: { kind: 'all' } },
  {
    onStep: ({ step }) => {
      if (step === killBefore) process.kill(process.pid, 'SIGKILL');
    },
  },
);
