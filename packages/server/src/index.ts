export { type Access, accessLevels, type TenantSource } from './access.ts';
export { decodeCursor, encodeCursor, type Page, pageOf, pageQuery, pageSchema } from './paging.ts';
export { hashPassword } from './people/better-auth.ts';
export { type PeopleOptions, passwordLength, type SendMail } from './people/people-options.ts';
export type { Principal, TenantRole } from './people/principal.ts';
export { signSessionToken } from './people/session-token.ts';
export { partywall, type ServerOptions } from './plugin.ts';
export { Problem, problem, type ServerErrorCode, serverErrors } from './problem.ts';
export { filledText, optionalBody, text } from './schemas.ts';
