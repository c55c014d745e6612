import type { Command } from 'commander';
import { registerApply } from './commands/apply.ts';
import { registerDiff } from './commands/diff.ts';
import { registerDoctor } from './commands/doctor.ts';
import { registerRollback } from './commands/rollback.ts';
import type { Start } from './context.ts';

/** Adds one verb to the program. */
export type Register = (program: Command, start: Start) => void;

/** In the order of their use, which is the order of `partywall --help`. */
export const verbs: readonly Register[] = [registerDiff, registerApply, registerRollback, registerDoctor];
