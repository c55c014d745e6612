/** The times that the documents name, in UTC: daily at 02:00, on Sundays, on the first. A slot begins at one and ends with the next. */
export const slotNames = ['daily', 'weekly', 'monthly'] as const;
export type SlotName = (typeof slotNames)[number];

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const nightMs = 2 * hourMs;
/** 1970-01-01 was a Thursday: the first Sunday was three days later. */
const firstSundayMs = 3 * dayMs;

/** Begin of the slot that `at` is in. */
export function slotBegin(name: SlotName, at: Date): Date {
  const time = at.getTime();
  if (name === 'daily') return floor(time, dayMs, nightMs);
  if (name === 'weekly') return floor(time, 7 * dayMs, firstSundayMs + nightMs);
  return monthBegin(at, 0) <= at ? monthBegin(at, 0) : monthBegin(at, -1);
}

/** Begin of the next slot. */
export function nextSlot(name: SlotName, at: Date): Date {
  const begin = slotBegin(name, at);
  if (name === 'monthly') return monthBegin(begin, 1);
  return new Date(begin.getTime() + (name === 'daily' ? dayMs : 7 * dayMs));
}

function floor(time: number, every: number, offset: number): Date {
  return new Date(Math.floor((time - offset) / every) * every + offset);
}

function monthBegin(at: Date, months: number): Date {
  return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + months, 1) + nightMs);
}
