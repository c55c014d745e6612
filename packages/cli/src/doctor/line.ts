/** One thing that doctor looked at. A skip says what it waits for; it is neither good nor bad. */
export interface Line {
  readonly id: string;
  readonly status: 'pass' | 'fail' | 'skip';
  readonly message: string;
  readonly hint?: string;
}

export function pass(id: string, message: string): Line {
  return { id, status: 'pass', message };
}

export function fail(id: string, message: string, hint: string): Line {
  return { id, status: 'fail', message, hint };
}

export function skip(id: string, message: string): Line {
  return { id, status: 'skip', message };
}
