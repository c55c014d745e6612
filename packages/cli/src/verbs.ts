import type { Command } from 'commander';
import type { Start } from './context.ts';

/** Adds one verb to the program. */
export type Register = (program: Command, start: Start) => void;

export const verbs: readonly Register[] = [];
