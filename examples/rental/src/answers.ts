import type { ErrorRequestHandler, RequestHandler } from 'express';
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

/** Answers what a route has thrown. What is nobody's mistake is told to `onTrouble`, and outside only that it was: its message may hold rows and paths. */
export function answerErrors(onTrouble: (error: unknown) => void): ErrorRequestHandler {
  return (error, _request, response, next) => {
    if (response.headersSent) return next(error);
    const refused = refusalOf(error);
    if (!refused) onTrouble(error);
    const { status, message } = refused ?? new RefusedRequest(500, 'the server failed; its log says why');
    response.status(status).json({ status, detail: message });
  };
}

export const answerNoRoute: RequestHandler = (request) => {
  throw new RefusedRequest(404, `there is no ${request.method} ${request.path}`);
};

function refusalOf(error: unknown): RefusedRequest | undefined {
  if (error instanceof RefusedRequest) return error;
  if (error instanceof ZodError) return new RefusedRequest(400, error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '));
  if (error instanceof SyntaxError) return new RefusedRequest(400, 'the body is no JSON');
  if (isBadRequest(error)) return new RefusedRequest(error.status, error.message);
  if (!(error instanceof Prisma.PrismaClientKnownRequestError)) return undefined;
  if (error.code === 'P2002') return new RefusedRequest(409, 'it is there already');
  if (error.code === 'P2003') return new RefusedRequest(409, 'it names what is not there, or is named by something else');
  if (error.code === 'P2020') return new RefusedRequest(400, 'a number is too large');
  if (error.code === 'P2039' && error.message.includes(noText)) return new RefusedRequest(400, 'a text holds what is no character');
  return undefined;
}

/** PostgreSQL's state for text that it cannot keep, such as a zero byte; Prisma has it in its message alone. */
const noText = 'Code: `22021`';

/** Express and its parsers say what the request did wrong: too long a body, a path that cannot be read. */
function isBadRequest(error: unknown): error is Error & { readonly status: number } {
  return error instanceof Error && 'status' in error && typeof error.status === 'number' && error.status >= 400 && error.status < 500;
}
