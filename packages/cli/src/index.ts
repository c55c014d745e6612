export { defineTenancy, type TenancyConfig } from '@partywall/engine';
