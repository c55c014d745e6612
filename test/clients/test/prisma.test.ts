import { prisma } from '../src/prisma.ts';
import { conformance } from './conformance.ts';

await conformance(prisma);
