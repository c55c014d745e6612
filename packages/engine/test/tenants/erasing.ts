import { afterAll, expect } from 'vitest';
import type { ControlFixture } from '../../../../test/support/control-database.ts';
import { awaitOperation, type Durable, type EraseInput, eraseTenant, inProcess, type LongOperation, works } from '../../src/index.ts';

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
