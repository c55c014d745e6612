export { type Access, accessLevels, type TenantSource } from './access.ts';
export type { Principal, TenantRole } from './people/principal.ts';
export { partywall, type ServerOptions } from './plugin.ts';
export { Problem, problem, type ServerErrorCode, serverErrors } from './problem.ts';
