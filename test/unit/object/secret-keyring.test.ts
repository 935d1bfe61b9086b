import { describe, expect, it } from 'vitest';
import { ObjectRegistry } from '../../../src/object/object-registry.ts';

const keyring = (serial: number) => ({ 'qom-type': 'secret_keyring', id: 'k', serial }) as const;

// A key of the test's own would need add_key(2); what is read is in the conformance suite's hands.
describe('secret_keyring', () => {
  it('says which key it cannot read, and why', async () => {
    await expect(new ObjectRegistry().add(keyring(0x7ffffff1))).rejects.toThrow(
      /^Unable to read serial key 7ffffff1: (?:Required key not available|Function not implemented|Operation not permitted)$/,
    );
    await expect(new ObjectRegistry().add(keyring(-1))).rejects.toThrow(
      /^Unable to read serial key ffffffff: /,
    );
  });

  it('needs a serial number', async () => {
    await expect(new ObjectRegistry().add(keyring(0))).rejects.toThrow(
      "'serial' should not be equal to 0",
    );
  });
});
