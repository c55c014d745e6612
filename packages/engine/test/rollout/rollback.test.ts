import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, expect, test } from 'vitest';
import { controlDatabase } from '../../../../test/support/control-database.ts';
import { changeRollout, connect } from '../../src/index.ts';

const on = await controlDatabase();
const tenant = await on.tenant('Acme');
const service = await connect(on.urls.service, { purpose: 'test' });
const input = JSON.stringify({ app: on.urls.app, system: on.urls.system, tenant });
const script = path.join(import.meta.dirname, 'following-process.ts');
const children = [1, 2].map(() => spawn(process.execPath, ['--conditions=partywall-source', script, input], { stdio: ['ignore', 'pipe', 'inherit'] }));
const tellings = children.map((child) => createInterface(child.stdout)[Symbol.asyncIterator]());
afterAll(async () => {
  for (const child of children) {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  await service.end();
});

const next = () => Promise.all(tellings.map(async (lines) => (await lines.next()).value));

test('a rollback is heard by two running processes without a deploy, and so is the way forward', async () => {
  expect(await next()).toEqual(['enforced', 'enforced']);
  const change = (mode: 'observe' | 'enforce') =>
    changeRollout(service, { model: on.model, change: { scope: 'all', mode }, actor: { kind: 'operator', id: 'kari' }, reason: 'errors' });
  const begun = performance.now();
  const [heard] = await Promise.all([next(), change('observe')]);
  console.info(`a rollback was heard by two processes after ${Math.round(performance.now() - begun)} ms`);
  expect(heard).toEqual(['observed', 'observed']);
  const [forward] = await Promise.all([next(), change('enforce')]);
  expect(forward).toEqual(['enforced', 'enforced']);
}, 60_000);
