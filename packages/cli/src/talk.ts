import { createInterface } from 'node:readline/promises';
import { styleText } from 'node:util';
import type { Style } from './context.ts';
import { type Progress, plainFilter, progressLine } from './progress.ts';

/** Standard error, for people. On a terminal progress is one line that is written over; elsewhere it is plain lines. */
export interface Talk {
  line(text: string): void;
  progress(progress: Progress): void;
  /** Whether a person can be asked. */
  readonly interactive: boolean;
  /** Asks on the terminal; only `y` and `yes` mean yes. */
  confirm(question: string, signal: AbortSignal): Promise<boolean>;
  /** Asks on the terminal; what was typed, without spaces around it. */
  ask(question: string, signal: AbortSignal): Promise<string>;
  style(style: Style, text: string): string;
  /** Ends an open progress line. */
  finish(): void;
}

const redrawIntervalMs = 100;
/** For a terminal that does not know its width. */
const defaultColumns = 80;
const eraseLine = '\r\x1b[2K';

export function createTalk(streams: { stdin: NodeJS.ReadStream; stderr: NodeJS.WriteStream }, now: () => number): Talk {
  const { stdin, stderr } = streams;
  const terminal = stderr.isTTY === true;
  const wanted = plainFilter(now);
  let open: { label: string; since: number; drawnAt: number } | undefined;

  const finish = (): void => {
    if (open && terminal) stderr.write('\n');
    open = undefined;
  };

  const progress = (state: Progress): void => {
    const at = now();
    if (open?.label !== state.label) {
      finish();
      open = { label: state.label, since: at, drawnAt: 0 };
    }
    const text = progressLine(state, at - open.since);
    if (!terminal) {
      if (wanted(state)) stderr.write(`${text}\n`);
      return;
    }
    if (at - open.drawnAt < redrawIntervalMs && state.done !== state.total) return;
    open.drawnAt = at;
    stderr.write(`${eraseLine}${text.slice(0, (stderr.columns || defaultColumns) - 1)}`);
  };

  const ask = async (question: string, signal: AbortSignal): Promise<string> => {
    finish();
    // Not as a terminal: readline would take Ctrl-C for itself, which is to interrupt the command.
    const prompt = createInterface({ input: stdin, output: stderr, terminal: false });
    try {
      return (await prompt.question(question, { signal })).trim();
    } finally {
      prompt.close();
    }
  };

  return {
    interactive: terminal && stdin.isTTY === true,
    line: (text) => {
      finish();
      stderr.write(`${text}\n`);
    },
    progress,
    confirm: async (question, signal) => /^y(es)?$/i.test(await ask(`${question} [y/N] `, signal)),
    ask,
    style: (style, text) => styleText(style, text, { stream: stderr }),
    finish,
  };
}
