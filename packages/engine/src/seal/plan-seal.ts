import { PartywallError } from '../errors.ts';
import type { SealKey } from './seal-key.ts';
import type { SealState } from './seal-state.ts';

/** What an operator asks for. `rotate` makes a key, `add` puts one there that another database made. */
export type SealRequest =
  | { readonly kind: 'on' }
  | { readonly kind: 'off' }
  | { readonly kind: 'rotate' }
  | { readonly kind: 'add'; readonly key: SealKey }
  | { readonly kind: 'retire'; readonly id: number };

export type SealStep =
  | { readonly kind: 'close'; readonly role: string }
  | { readonly kind: 'open'; readonly role: string }
  | { readonly kind: 'key'; readonly id: number }
  | { readonly kind: 'retire'; readonly id: number };

export interface SealPlan {
  /** None where the database is as asked for. */
  readonly steps: readonly (SealStep & { readonly title: string; readonly reason: string })[];
  /** What the operator should know beside it. */
  readonly notes: readonly string[];
}

/** Keys that are good at a time: two while they change, and some for databases that came together. */
const keysMax = 8;

/**
 * @param known whether the database has the given key already, with the same secret
 * @throws PartywallError seal_unchanged
 */
export function planSeal(request: SealRequest, state: SealState, { app, known = undefined }: { app: string; known?: boolean | undefined }): SealPlan {
  const good = state.keys.filter(({ retiredAt }) => retiredAt === null);
  switch (request.kind) {
    case 'on':
      return planOn(state, app, good.length);
    case 'off':
      if (state.sealed === undefined) return { steps: [], notes: [] };
      return {
        steps: [{ kind: 'open', role: state.sealed, title: `let ${state.sealed} enter a tenant by its key`, reason: 'pools with and without a key work' }],
        notes: ['SQL of the application’s role can name any tenant from now on'],
      };
    case 'rotate':
    case 'add': {
      if (known === true) return { steps: [], notes: [] };
      if (good.length >= keysMax) throw refused(`adding a key: ${good.length} are good, and ${keysMax} may be`, 'retire those that nobody uses');
      const id = request.kind === 'add' ? request.key.id : Math.max(0, ...state.keys.map((key) => key.id)) + 1;
      if (request.kind === 'add' && known === false) throw refused(`adding key ${id}: the database has another key of that number`, 'rotate, and deploy that');
      return {
        steps: [{ kind: 'key', id, title: `add key ${id}`, reason: 'seals made with it are taken' }],
        notes:
          good.length === 0
            ? []
            : [`when every process has key ${id}: \`partywall seal retire ${good.map((key) => key.id).join('` and `partywall seal retire ')}\``],
      };
    }
    case 'retire':
      return planRetire(request.id, state, good);
  }
}

function planOn(state: SealState, app: string, good: number): SealPlan {
  const notes = state.temporaryOpen
    ? [`${app} may make temporary objects: behind a pooler they are there for the next tenant; \`revoke temporary on database ... from public\` ends that`]
    : [];
  if (state.sealed === app && !state.open) return { steps: [], notes };
  if (!state.isProtected) {
    throw refused(
      'sealing: the context is in a setting that the application may set, so a seal would close one of two doors',
      'as a superuser, run `partywall apply --phase expand`, which lets the owner of schema partywall set backtrace_functions',
    );
  }
  if (good === 0) throw refused('sealing: there is no key', '`partywall seal rotate` makes one; deploy it before sealing');
  return {
    steps: [
      ...(state.sealed === undefined || state.sealed === app
        ? []
        : [{ kind: 'open' as const, role: state.sealed, title: `let ${state.sealed} go`, reason: 'the model names another role' }]),
      {
        kind: 'close',
        role: app,
        title: `let ${app} enter with a seal alone`,
        reason: 'SQL of its own cannot name another tenant; running transactions go on',
      },
    ],
    notes,
  };
}

function planRetire(id: number, { sealed, keys }: SealState, good: SealState['keys']): SealPlan {
  const key = keys.find((one) => one.id === id);
  if (!key) throw refused(`retiring key ${id}: the database has no such key`, '`partywall seal status` lists them');
  if (key.retiredAt !== null) return { steps: [], notes: [] };
  if (sealed !== undefined && good.length === 1) {
    throw refused(`retiring key ${id}: it is the last one of a sealed database, and nobody could enter`, 'rotate and deploy first, or `partywall seal off`');
  }
  return { steps: [{ kind: 'retire', id, title: `retire key ${id}`, reason: 'seals made with it are refused from now on, for good' }], notes: [] };
}

function refused(message: string, hint: string): PartywallError {
  return new PartywallError('seal_unchanged', message, { hint });
}
