import { expect, test } from 'vitest';
import type { Scope } from '../src/context.ts';
import { CrossTenantError, StatementRefusedError } from '../src/errors.ts';
import { classify } from '../src/statement.ts';
import { TransactionTrack } from '../src/transaction.ts';

const one: Scope = { kind: 'tenant', tenant: '1', context: { tenant: 1 } };
const other: Scope = { kind: 'tenant', tenant: '2', context: { tenant: 2 } };
const system: Scope = { kind: 'system', purpose: 'a test' };
const select = classify('select 1');

test('outside a transaction every data statement enters, and nothing else does', () => {
  const track = new TransactionTrack();
  for (const text of ['select 1', 'copy t to stdout', 'call p()']) {
    expect(track.decide('I', classify(text), one)).toBe('enter');
    track.entered();
  }
  for (const text of ['', 'begin', 'set a = 1', 'show a', 'savepoint a', 'commit', 'rollback', 'set transaction read only']) {
    expect(track.decide('I', classify(text), one)).toBe('plain');
  }
});

test('in the failed state nothing is prefixed, entered or not', () => {
  const track = new TransactionTrack();
  track.decide('I', classify('begin'), one);
  expect(track.decide('E', select, one)).toBe('plain');
  expect(track.decide('E', classify('rollback to a'), one)).toBe('plain');
  expect(track.decide('E', select, one)).toBe('plain');
  expect(track.decide('T', select, one)).toBe('enter');
});

test('a system context never enters, and sends alone what cannot share a transaction', () => {
  const track = new TransactionTrack();
  expect(track.decide('I', select, system)).toBe('plain');
  expect(track.decide('I', classify('vacuum'), system)).toBe('plain');
  expect(track.decide('I', classify('vacuum'), one)).toBeInstanceOf(StatementRefusedError);
});

test('a transaction that nobody was seen to begin belongs to the first who reads in it', () => {
  const track = new TransactionTrack();
  expect(track.decide('T', select, one)).toBe('enter');
  expect(track.decide('T', select, other)).toBeInstanceOf(CrossTenantError);
});

test('a refusal lasts until ROLLBACK or COMMIT, and not beyond ROLLBACK AND CHAIN', () => {
  const track = new TransactionTrack();
  const refusal = new Error('refused');
  for (const end of ['rollback', 'commit']) {
    track.decide('I', classify('begin'), one);
    track.refused(refusal);
    for (const text of ['select 1', 'savepoint a', 'rollback to a', 'rollback and chain', 'begin'])
      expect(track.decide('I', classify(text), one)).toBe(refusal);
    expect(track.decide('I', classify(end), one)).toBe(end === 'commit' ? refusal : 'plain');
    expect(track.decide('I', select, other)).toBe('enter');
  }
});
