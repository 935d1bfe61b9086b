// A daemon of a contestant's kind whose NBD server wants TLS, for one measurement. The keys are those of the fixtures: ECDSA, so
// that what is measured is the copying.

import { DaemonProcess } from '../conformance/daemon-process.ts';
import { ours, reference } from '../conformance/side.ts';
import { clientFiles, contentOf, serverFiles } from '../helpers/tls-files.ts';
import type { Contestant } from './contestants.ts';

export interface TlsDaemon {
  readonly uri: string;
  stop(): Promise<void>;
}

/** `image` is served writable; both sides know each other by certificates. */
export async function startTlsDaemon(contestant: Contestant, image: string): Promise<TlsDaemon> {
  const files = Object.entries({ ...serverFiles, ...clientFiles() });
  const daemon = new DaemonProcess(contestant.name === 'ours' ? ours() : reference(), {
    files: files.map(([name, source]) => ({ name, text: contentOf(source) })),
    arguments: [
      '--object',
      'tls-creds-x509,id=t,dir=@DIR@,endpoint=server',
      '--blockdev',
      `file,node-name=f,filename=${image}`,
      '--nbd-server',
      'addr.type=unix,addr.path=@DIR@/nbd.sock,tls-creds=t',
      '--export',
      'nbd,id=e,node-name=f,name=,writable=on',
    ],
  });
  await daemon.stdio?.negotiate();
  return {
    uri: `nbds+unix:///?socket=${daemon.path('nbd.sock')}&tls-certificates=${daemon.directory}`,
    stop: async () => {
      await daemon.stop();
    },
  };
}
