import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';
import { serialize } from 'node:v8';
import { afterAll, expect } from 'vitest';
import type { ControlFixture } from '../../../../test/support/control-database.ts';
import {
  awaitOperation,
  connect,
  createSystemDatabase,
  type Durable,
  type EraseInput,
  eraseTenant,
  inProcess,
  type LongOperation,
  systemDatabaseName,
  systemDatabaseUrl,
  works,
} from '../../src/index.ts';
import type { ErasingProcess } from './erasing-process.ts';

/** Erases to the end, in this process. */
export function eraser(fixture: ControlFixture): { durable: Durable; erase(input: EraseInput): Promise<LongOperation> } {
  const durable = inProcess(fixture.control, works);
  afterAll(() => durable.stop());
  return {
    durable,
    erase: async (input) => {
      const { id } = await eraseTenant(fixture.operation(), durable, input);
      const ended = await awaitOperation(fixture.operation(), id, { timeoutMs: 30_000 });
      expect(ended.state).not.toBe('running');
      return ended;
    },
  };
}

/** Connection string of a system database for the fixture's, dropped after the test file. */
export async function systemDatabase({ database, model, urls }: ControlFixture): Promise<string> {
  const client = await connect(database.url, { purpose: 'test' });
  await createSystemDatabase(client, model.roles.service).finally(() => client.end());
  afterAll(() => database.query(`drop database if exists "${systemDatabaseName(database.name)}" with (force)`));
  return systemDatabaseUrl(urls.service);
}

/** Starts a process that carries out operations. */
export function startErasing(fixture: ControlFixture, system: string, more: Pick<ErasingProcess, 'tenant' | 'kill'>): ChildProcessWithoutNullStreams {
  const { model, control, urls } = fixture;
  const given: ErasingProcess = { service: urls.service, system, model: serialize(model).toString('base64'), keyring: control.keyring, ...more };
  const child = spawn(process.execPath, ['--conditions=partywall-source', path.join(import.meta.dirname, 'erasing-process.ts'), JSON.stringify(given)]);
  child.stderr.resume();
  return child;
}
