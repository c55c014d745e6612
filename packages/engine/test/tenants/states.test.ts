import { describe, expect, test } from 'vitest';
import { decide, possibleActions, type TenantAction, type TenantStanding, tenantActions, tenantStatuses } from '../../src/tenants/states.ts';

const now = new Date('2030-06-01T00:00:00Z');
const later = new Date('2030-07-01T00:00:00Z');
const earlier = new Date('2030-05-01T00:00:00Z');

function standing(changes: Partial<TenantStanding>): TenantStanding {
  const status = changes.status ?? 'active';
  const retainedUntil = status === 'cancelled' || status === 'deleted' ? later : null;
  return { status, retainedUntil, held: false, ...changes };
}

describe('the states of a tenant', () => {
  test.each([
    ['active', ['suspend', 'cancel', 'delete']],
    ['suspended', ['reactivate', 'cancel', 'delete']],
    ['cancelled', ['reactivate', 'delete']],
    ['deleted', ['restore']],
    ['erasing', []],
  ] as const)('from %s exactly these are possible without force', (status, possible) => {
    expect(possibleActions(standing({ status }), now)).toEqual(possible);
  });

  test('after the retention a tenant can be erased without force and not be brought back', () => {
    expect(possibleActions(standing({ status: 'deleted', retainedUntil: earlier }), now)).toEqual(['erase']);
    expect(possibleActions(standing({ status: 'cancelled', retainedUntil: earlier }), now)).toEqual(['delete', 'erase']);
  });

  test('the retention ends at its last instant', () => {
    expect(decide(standing({ status: 'deleted', retainedUntil: now }), 'erase', now)).toEqual({ kind: 'change', to: 'erasing' });
    expect(decide(standing({ status: 'deleted', retainedUntil: now }), 'restore', now).kind).toBe('refused');
  });

  test('force erases from every state', () => {
    for (const status of tenantStatuses.filter((each) => each !== 'erasing')) {
      expect(decide(standing({ status }), 'erase', now, true), status).toEqual({ kind: 'change', to: 'erasing' });
    }
  });

  test('a legal hold refuses every deletion from every state, forced or not, and nothing else', () => {
    for (const status of tenantStatuses) {
      for (const action of tenantActions) {
        const free = decide(standing({ status }), action, now, true);
        const held = decide(standing({ status, held: true }), action, now, true);
        const deletes: readonly TenantAction[] = ['delete', 'erase'];
        if (free.kind === 'change' && deletes.includes(action))
          expect(held, `${status} ${action}`).toMatchObject({ kind: 'refused', why: 'it is under a legal hold' });
        else expect(held.kind, `${status} ${action}`).toBe(free.kind);
      }
    }
  });

  test('asking for what holds already changes nothing', () => {
    expect(decide(standing({ status: 'suspended' }), 'suspend', now)).toEqual({ kind: 'same' });
    expect(decide(standing({ status: 'active' }), 'restore', now)).toEqual({ kind: 'same' });
  });

  test('a refusal names the state and what is possible', () => {
    expect(decide(standing({ status: 'deleted' }), 'suspend', now)).toEqual({ kind: 'refused', why: 'it is deleted', possible: ['restore'] });
  });
});
