// The constants of the NBD protocol, spelled exactly as the specification spells them (link in src/export/nbd/README.md), and the names by
// which the reference calls them in its texts. Nothing here executes but the look-ups.

/** 64-bit constants are two 32-bit halves: the hot path knows no BigInt. */
export const NBD_MAGIC = { high: 0x4e42444d, low: 0x41474943 } as const; // NBDMAGIC
export const NBD_CLIENT_MAGIC = { high: 0x00004202, low: 0x81861253 } as const; // oldstyle
export const NBD_OPTS_MAGIC = { high: 0x49484156, low: 0x454f5054 } as const; // IHAVEOPT
export const NBD_REP_MAGIC = { high: 0x0003e889, low: 0x045565a9 } as const;
export const NBD_REQUEST_MAGIC = 0x25609513;
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;

// Handshake flags, server to client and client to server.
export const NBD_FLAG_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_NO_ZEROES = 1 << 1;
export const NBD_FLAG_C_FIXED_NEWSTYLE = 1 << 0;
export const NBD_FLAG_C_NO_ZEROES = 1 << 1;

// Transmission flags: what an export can do.
export const NBD_FLAG_HAS_FLAGS = 1 << 0;
export const NBD_FLAG_READ_ONLY = 1 << 1;
export const NBD_FLAG_SEND_FLUSH = 1 << 2;
export const NBD_FLAG_SEND_FUA = 1 << 3;
export const NBD_FLAG_SEND_TRIM = 1 << 5;
export const NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6;
export const NBD_FLAG_SEND_DF = 1 << 7;
export const NBD_FLAG_CAN_MULTI_CONN = 1 << 8;
export const NBD_FLAG_SEND_CACHE = 1 << 10;
export const NBD_FLAG_SEND_FAST_ZERO = 1 << 11;
export const NBD_FLAG_BLOCK_STATUS_PAYLOAD = 1 << 12;

// Options of the handshake.
export const NBD_OPT_EXPORT_NAME = 1;
export const NBD_OPT_ABORT = 2;
export const NBD_OPT_LIST = 3;
export const NBD_OPT_STARTTLS = 5;
export const NBD_OPT_INFO = 6;
export const NBD_OPT_GO = 7;
export const NBD_OPT_STRUCTURED_REPLY = 8;
export const NBD_OPT_LIST_META_CONTEXT = 9;
export const NBD_OPT_SET_META_CONTEXT = 10;
export const NBD_OPT_EXTENDED_HEADERS = 11;

export type NbdOption =
  | typeof NBD_OPT_EXPORT_NAME
  | typeof NBD_OPT_ABORT
  | typeof NBD_OPT_LIST
  | typeof NBD_OPT_STARTTLS
  | typeof NBD_OPT_INFO
  | typeof NBD_OPT_GO
  | typeof NBD_OPT_STRUCTURED_REPLY
  | typeof NBD_OPT_LIST_META_CONTEXT
  | typeof NBD_OPT_SET_META_CONTEXT
  | typeof NBD_OPT_EXTENDED_HEADERS;

const optionNames: Readonly<Record<NbdOption, string>> = {
  [NBD_OPT_EXPORT_NAME]: 'export name',
  [NBD_OPT_ABORT]: 'abort',
  [NBD_OPT_LIST]: 'list',
  [NBD_OPT_STARTTLS]: 'starttls',
  [NBD_OPT_INFO]: 'info',
  [NBD_OPT_GO]: 'go',
  [NBD_OPT_STRUCTURED_REPLY]: 'structured reply',
  [NBD_OPT_LIST_META_CONTEXT]: 'list meta context',
  [NBD_OPT_SET_META_CONTEXT]: 'set meta context',
  [NBD_OPT_EXTENDED_HEADERS]: 'extended headers',
};

// Replies to options.
export const NBD_REP_ACK = 1;
export const NBD_REP_SERVER = 2;
export const NBD_REP_INFO = 3;
export const NBD_REP_META_CONTEXT = 4;
export const NBD_REP_ERR_UNSUP = 0x80000001;
export const NBD_REP_ERR_POLICY = 0x80000002;
export const NBD_REP_ERR_INVALID = 0x80000003;
export const NBD_REP_ERR_PLATFORM = 0x80000004;
export const NBD_REP_ERR_TLS_REQD = 0x80000005;
export const NBD_REP_ERR_UNKNOWN = 0x80000006;
export const NBD_REP_ERR_SHUTDOWN = 0x80000007;
export const NBD_REP_ERR_BLOCK_SIZE_REQD = 0x80000008;
export const NBD_REP_ERR_EXT_HEADER_REQD = 0x8000000a;
/** Set in the types of all replies that are errors. */
export const NBD_REP_FLAG_ERROR = 0x80000000;

const replyNames: Readonly<Record<number, string>> = {
  [NBD_REP_ACK]: 'ack',
  [NBD_REP_SERVER]: 'server',
  [NBD_REP_INFO]: 'info',
  [NBD_REP_META_CONTEXT]: 'meta context',
  [NBD_REP_ERR_UNSUP]: 'unsupported',
  [NBD_REP_ERR_POLICY]: 'denied by policy',
  [NBD_REP_ERR_INVALID]: 'invalid',
  [NBD_REP_ERR_PLATFORM]: 'platform lacks support',
  [NBD_REP_ERR_TLS_REQD]: 'TLS required',
  [NBD_REP_ERR_UNKNOWN]: 'export unknown',
  [NBD_REP_ERR_SHUTDOWN]: 'server shutting down',
  [NBD_REP_ERR_BLOCK_SIZE_REQD]: 'block size required',
};

export const NBD_INFO_EXPORT = 0;
export const NBD_INFO_NAME = 1;
export const NBD_INFO_DESCRIPTION = 2;
export const NBD_INFO_BLOCK_SIZE = 3;

// Commands of the transmission phase.
export const NBD_CMD_READ = 0;
export const NBD_CMD_WRITE = 1;
export const NBD_CMD_DISC = 2;
export const NBD_CMD_FLUSH = 3;
export const NBD_CMD_TRIM = 4;
export const NBD_CMD_CACHE = 5;
export const NBD_CMD_WRITE_ZEROES = 6;
export const NBD_CMD_BLOCK_STATUS = 7;

export type NbdCommand =
  | typeof NBD_CMD_READ
  | typeof NBD_CMD_WRITE
  | typeof NBD_CMD_DISC
  | typeof NBD_CMD_FLUSH
  | typeof NBD_CMD_TRIM
  | typeof NBD_CMD_CACHE
  | typeof NBD_CMD_WRITE_ZEROES
  | typeof NBD_CMD_BLOCK_STATUS;

const commandNames: Readonly<Record<NbdCommand, string>> = {
  [NBD_CMD_READ]: 'read',
  [NBD_CMD_WRITE]: 'write',
  [NBD_CMD_DISC]: 'disconnect',
  [NBD_CMD_FLUSH]: 'flush',
  [NBD_CMD_TRIM]: 'trim',
  [NBD_CMD_CACHE]: 'cache',
  [NBD_CMD_WRITE_ZEROES]: 'write zeroes',
  [NBD_CMD_BLOCK_STATUS]: 'block status',
};

export const NBD_CMD_FLAG_FUA = 1 << 0;
export const NBD_CMD_FLAG_NO_HOLE = 1 << 1;
export const NBD_CMD_FLAG_DF = 1 << 2;
export const NBD_CMD_FLAG_REQ_ONE = 1 << 3;
export const NBD_CMD_FLAG_FAST_ZERO = 1 << 4;
export const NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5;

// Structured reply chunks.
export const NBD_REPLY_FLAG_DONE = 1 << 0;
export const NBD_REPLY_TYPE_NONE = 0;
export const NBD_REPLY_TYPE_OFFSET_DATA = 1;
export const NBD_REPLY_TYPE_OFFSET_HOLE = 2;
export const NBD_REPLY_TYPE_BLOCK_STATUS = 5;
export const NBD_REPLY_TYPE_BLOCK_STATUS_EXT = 6;
export const NBD_REPLY_TYPE_ERROR = 0x8001;
export const NBD_REPLY_TYPE_ERROR_OFFSET = 0x8002;
/** Set in the types of all chunks that are errors. */
export const NBD_REPLY_TYPE_IS_ERROR = 0x8000;

const chunkNames: Readonly<Record<number, string>> = {
  [NBD_REPLY_TYPE_NONE]: 'none',
  [NBD_REPLY_TYPE_OFFSET_DATA]: 'data',
  [NBD_REPLY_TYPE_OFFSET_HOLE]: 'hole',
  [NBD_REPLY_TYPE_BLOCK_STATUS]: 'block status',
  [NBD_REPLY_TYPE_BLOCK_STATUS_EXT]: 'block status (64-bit)',
  [NBD_REPLY_TYPE_ERROR]: 'generic error',
  [NBD_REPLY_TYPE_ERROR_OFFSET]: 'error at offset',
};

// Extent flags of base:allocation.
export const NBD_STATE_HOLE = 1 << 0;
export const NBD_STATE_ZERO = 1 << 1;

// Extent flag of qemu:dirty-bitmap.
export const NBD_STATE_DIRTY = 1 << 0;

// Errors on the wire; errno values, but a closed list.
export const NBD_SUCCESS = 0;
export const NBD_EPERM = 1;
export const NBD_EIO = 5;
export const NBD_ENOMEM = 12;
export const NBD_EINVAL = 22;
export const NBD_ENOSPC = 28;
export const NBD_EOVERFLOW = 75;
export const NBD_ENOTSUP = 95;
export const NBD_ESHUTDOWN = 108;

/** Bytes in one request's data: the reference's limit, and what the specification says a server should accept. */
export const NBD_MAX_BUFFER_SIZE = 32 * 1024 * 1024;

/** Bytes in an export name, a description or a context name: the specification's limit. */
export const NBD_MAX_STRING_SIZE = 4096;

// Sizes of the fixed structures, in bytes.
export const GREETING_SIZE = 18;
export const OPTION_SIZE = 16;
export const OPTION_REPLY_SIZE = 20;
export const REQUEST_SIZE = 28;
export const SIMPLE_REPLY_SIZE = 16;
export const CHUNK_SIZE = 20;
export const EXTENDED_REQUEST_SIZE = 32;
export const EXTENDED_CHUNK_SIZE = 32;
// What follows the header of a chunk, in front of data, text or extents.
export const OFFSET_DATA_SIZE = 8;
export const OFFSET_HOLE_SIZE = 12;
export const ERROR_SIZE = 6;
export const BLOCK_STATUS_SIZE = 4;
export const EXTENT_SIZE = 8;
export const BLOCK_STATUS_EXT_SIZE = 8;
export const EXTENDED_EXTENT_SIZE = 16;
// The payload of a status request: a length, then ids.
export const STATUS_PAYLOAD_SIZE = 8;
export const CONTEXT_ID_SIZE = 4;

/** What the reference calls an option in its texts. */
export function nameOfOption(option: number): string {
  return optionNames[option as NbdOption] ?? '<unknown>';
}

/** What the reference calls the type of a reply to an option in its texts. */
export function nameOfReply(type: number): string {
  return replyNames[type] ?? '<unknown>';
}

/** What the reference calls the type of a chunk in its texts. */
export function nameOfChunk(type: number): string {
  const unknown = (type & NBD_REPLY_TYPE_IS_ERROR) === 0 ? '<unknown>' : '<unknown error>';
  return chunkNames[type] ?? unknown;
}

/** What the reference calls a command in its texts. */
export function nameOfCommand(command: number): string {
  return commandNames[command as NbdCommand] ?? '<unknown>';
}
