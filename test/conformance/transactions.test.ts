import { transactions } from './areas/transactions.ts';
import { conformance } from './suite.ts';

conformance(transactions);
