// The C library through koffi: one table of prototypes, each bound on first use. This folder is the only one that knows koffi.
// int64_t results of the calls below stay under 2^53 (sizes, addresses), so koffi hands them over as numbers; loff_t may be
// more, and is a BigInt then. Variadic functions (open, fcntl, ioctl) are declared with the arguments
// they are called with, which x86-64 and arm64 Linux pass alike.

import { constants } from 'node:buffer';
import koffi from 'koffi';

const prototypes = {
  // memory
  calloc: 'uintptr_t calloc(size_t, size_t)',
  free: 'void free(uintptr_t)',
  mmap: 'int64_t mmap(uintptr_t, size_t, int, int, int, int64_t)',
  munmap: 'int munmap(uintptr_t, size_t)',
  madvise: 'int madvise(uintptr_t, size_t, int)',
  memcpy: 'uintptr_t memcpy(uintptr_t, uintptr_t, size_t)',
  memfd_create: 'int memfd_create(str, uint)',
  process_vm_readv: 'int64_t process_vm_readv(int, uintptr_t, size_t, uintptr_t, size_t, size_t)',
  process_vm_writev: 'int64_t process_vm_writev(int, uintptr_t, size_t, uintptr_t, size_t, size_t)',
  getpagesize: 'int getpagesize()',
  // descriptors and files
  open: 'int open(str, int, uint)',
  close: 'int close(int)',
  dup2: 'int dup2(int, int)',
  fcntl: 'int fcntl(int, int, int64_t)',
  fcntlPointer: 'int fcntl(int, int, void*)',
  ioctlPointer: 'int ioctl(int, uint64_t, void*)',
  lseek: 'loff_t lseek(int, int64_t, int)',
  preadv2: 'int64_t preadv2(int, uintptr_t, int, int64_t, int)',
  pread: 'int64_t pread(int, uintptr_t, size_t, int64_t)',
  pwritev: 'int64_t pwritev(int, uintptr_t, int, int64_t)',
  pwritev2: 'int64_t pwritev2(int, uintptr_t, int, int64_t, int)',
  pwrite: 'int64_t pwrite(int, uintptr_t, size_t, int64_t)',
  read: 'int64_t read(int, uintptr_t, size_t)',
  write: 'int64_t write(int, uintptr_t, size_t)',
  ftruncate: 'int ftruncate(int, int64_t)',
  fallocate: 'int fallocate(int, int, int64_t, int64_t)',
  posix_fadvise: 'int posix_fadvise(int, int64_t, int64_t, int)',
  eventfd: 'int eventfd(uint, int)',
  pipe2: 'int pipe2(void*, int)',
  splice: 'int64_t splice(int, uintptr_t, int, uintptr_t, size_t, uint)',
  poll: 'int poll(uintptr_t, uint64_t, int)',
  // mounts
  mount: 'int mount(str, str, str, uint64_t, str)',
  umount2: 'int umount2(str, int)',
  // sockets
  socket: 'int socket(int, int, int)',
  socketpair: 'int socketpair(int, int, int, void*)',
  bind: 'int bind(int, void*, uint)',
  listen: 'int listen(int, int)',
  accept4: 'int accept4(int, void*, void*, int)',
  connect: 'int connect(int, void*, uint)',
  recv: 'int64_t recv(int, uintptr_t, size_t, int)',
  send: 'int64_t send(int, uintptr_t, size_t, int)',
  recvmsg: 'int64_t recvmsg(int, uintptr_t, int)',
  sendmsg: 'int64_t sendmsg(int, uintptr_t, int)',
  sendfile: 'int64_t sendfile(int, int, void*, size_t)',
  shutdown: 'int shutdown(int, int)',
  getsockname: 'int getsockname(int, void*, void*)',
  getpeername: 'int getpeername(int, void*, void*)',
  getsockopt: 'int getsockopt(int, int, int, void*, void*)',
  setsockopt: 'int setsockopt(int, int, int, void*, uint)',
  getaddrinfo: 'int getaddrinfo(str, str, void*, void*)',
  freeaddrinfo: 'void freeaddrinfo(uintptr_t)',
  gai_strerror: 'str gai_strerror(int)',
  getnameinfo: 'int getnameinfo(void*, uint, void*, uint, void*, uint, int)',
  // process
  getppid: 'int getppid()',
  gettid: 'int gettid()',
  setsid: 'int setsid()',
  kill: 'int kill(int, int)',
  syscall: 'int64_t syscall(int64_t, int64_t, int64_t, void*, size_t)',
  syscallOfNumbers: 'int64_t syscall(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t)',
  // terminals
  posix_openpt: 'int posix_openpt(int)',
  grantpt: 'int grantpt(int)',
  unlockpt: 'int unlockpt(int)',
  ptsname_r: 'int ptsname_r(int, void*, size_t)',
  tcgetattr: 'int tcgetattr(int, void*)',
  tcsetattr: 'int tcsetattr(int, int, void*)',
  cfmakeraw: 'void cfmakeraw(void*)',
  cfsetspeed: 'int cfsetspeed(void*, uint)',
  // libuv, exported by the node executable
  uv_default_loop: 'uintptr_t uv_default_loop()',
  uv_handle_size: 'size_t uv_handle_size(int)',
  uv_poll_init: 'int uv_poll_init(uintptr_t, uintptr_t, int)',
  uv_poll_start: 'int uv_poll_start(uintptr_t, int, int64_t)',
  uv_poll_stop: 'int uv_poll_stop(uintptr_t)',
  uv_close: 'void uv_close(uintptr_t, int64_t)',
  uv_ref: 'void uv_ref(uintptr_t)',
  uv_unref: 'void uv_unref(uintptr_t)',
} as const;

type Value<T extends string> = T extends 'void'
  ? undefined
  : T extends 'str'
    ? string | null
    : T extends 'void*'
      ? Uint8Array | Uint32Array | null
      : T extends 'loff_t'
        ? number | bigint
        : number;
type Values<List extends string> = List extends ''
  ? []
  : List extends `${infer First}, ${infer Rest}`
    ? [Value<First>, ...Values<Rest>]
    : [Value<List>];
type Signature<P extends string> = P extends `${infer Result} ${string}(${infer List})`
  ? (...values: Values<List>) => Value<Result>
  : never;

/** A bound C function; `async` runs it in libuv's thread pool. */
type CFunction<F extends (...values: never[]) => unknown> = F & {
  async: (
    ...values: [...Parameters<F>, (error: Error | null | undefined, result: ReturnType<F>) => void]
  ) => void;
};

/** What a table of prototypes comes to. */
export type Bound<Prototypes extends Readonly<Record<string, string>>> = {
  readonly [Name in keyof Prototypes]: CFunction<Signature<Prototypes[Name]>>;
};

type Libc = Bound<typeof prototypes>;

/** As many as koffi allows when nobody says. */
const DEFAULT_ASYNC_CALLS = 256;

/** Calls in flight beyond this make koffi throw; sys/file.ts stays below. */
export const MAX_ASYNC_CALLS = configured();

/** A program around us that uses koffi, too, may have settled all of this. */
function configured(): number {
  try {
    koffi.config({ max_async_calls: 1024, resident_async_pools: 16 });
  } catch {
    // Then it stays as it is.
  }
  try {
    koffi.alias('loff_t', 'int64_t');
  } catch {
    // It is known, and no other type has that name.
  }
  return koffi.config().max_async_calls ?? DEFAULT_ASYNC_CALLS;
}

/** The C library. A property is bound when first read, then is a plain value. */
export const libc: Libc = bindLazily(prototypes);

/** errno of the last call. Read it before anything else runs: libuv overwrites it. */
export const errnoNow: () => number = koffi.errno;

/** True when the running program has the symbol (node builds may hide libuv's). */
export function hasSymbol(name: keyof Libc): boolean {
  try {
    return libc[name] !== undefined;
  } catch {
    return false;
  }
}

/** Address of the first byte. It stays put for as long as the array is referenced: typed arrays of ours live off the heap. */
export function addressOf(bytes: Uint8Array): number {
  return Number(koffi.address(bytes));
}

/** The memory at an address as an ArrayBuffer, without copying. Throws RangeError for more than node lets one be. */
export function viewOf(address: number, length: number): ArrayBuffer {
  // koffi would end the program.
  if (length > constants.MAX_LENGTH) throw new RangeError(`A view of ${length} bytes`);
  return koffi.view(BigInt(address), length);
}

type PointerType = ReturnType<typeof koffi.pointer>;

// koffi keeps what it was told of a type for ever: it is told once.
const pointerTypes = new Map<string, PointerType>();

function pointerTo(prototype: string): PointerType {
  const known = pointerTypes.get(prototype) ?? koffi.pointer(koffi.proto(prototype));
  pointerTypes.set(prototype, known);
  return known;
}

/** A C function pointer to `callback`, as an address, and how to give it back. */
export function functionPointer(
  prototype: string,
  callback: (...values: never[]) => void,
): { readonly address: number; release(): void } {
  const pointer = koffi.register(callback, pointerTo(prototype));
  return { address: Number(pointer), release: () => koffi.unregister(pointer) };
}

/** Binds functions of the running program, each when it is first read. */
export function bindLazily<Prototypes extends Readonly<Record<string, string>>>(
  prototypes: Prototypes,
): Bound<Prototypes> {
  // The program itself: the C library, whichever it is, and libuv are all reachable from it.
  const program = koffi.load(null);
  const table = {};
  for (const [name, prototype] of Object.entries(prototypes)) {
    Object.defineProperty(table, name, {
      configurable: true,
      enumerable: true,
      get() {
        const value: unknown = program.func(prototype);
        Object.defineProperty(table, name, { value, enumerable: true });
        return value;
      },
    });
  }
  return table as Bound<Prototypes>;
}
