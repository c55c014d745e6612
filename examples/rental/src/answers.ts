import type { ErrorRequestHandler } from 'express';
import { ZodError } from 'zod';
import { Prisma } from '../generated/client.ts';

/** What the application itself refuses. The wall's refusals never reach it: `problems` answers them before. */
export class RefusedRequest extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The row, or 404: another tenant's row is not there either. */
export function found<Row>(row: Row | null | undefined, what: string): Row {
  if (row === null || row === undefined) throw new RefusedRequest(404, `there is no ${what}`);
  return row;
}

/** Refuses with 409 unless exactly the one row was changed. */
export function changedOne({ count }: { readonly count: number }, otherwise: string): void {
  if (count !== 1) throw new RefusedRequest(409, otherwise);
}

export const answerErrors: ErrorRequestHandler = (error, _request, response, next) => {
  const refused = refusalOf(error);
  if (!refused || response.headersSent) return next(error);
  response.status(refused.status).json({ status: refused.status, detail: refused.message });
};

function refusalOf(error: unknown): RefusedRequest | undefined {
  if (error instanceof RefusedRequest) return error;
  if (error instanceof ZodError) return new RefusedRequest(400, error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
  if (error instanceof SyntaxError) return new RefusedRequest(400, 'the body is no JSON');
  if (!(error instanceof Prisma.PrismaClientKnownRequestError)) return undefined;
  if (error.code === 'P2002') return new RefusedRequest(409, 'it is there already');
  if (error.code === 'P2003') return new RefusedRequest(409, 'it names what is not there, or is named by something else');
  return undefined;
}
