// Constants of the vhost-user protocol and of split virtqueues, spelled as the specifications spell them (where those say
// "slave", as the later editions do). Nothing executable.

// Messages of a frontend
export const VHOST_USER_GET_FEATURES = 1;
export const VHOST_USER_SET_FEATURES = 2;
export const VHOST_USER_SET_OWNER = 3;
export const VHOST_USER_RESET_OWNER = 4;
export const VHOST_USER_SET_MEM_TABLE = 5;
export const VHOST_USER_SET_LOG_BASE = 6;
export const VHOST_USER_SET_LOG_FD = 7;
export const VHOST_USER_SET_VRING_NUM = 8;
export const VHOST_USER_SET_VRING_ADDR = 9;
export const VHOST_USER_SET_VRING_BASE = 10;
export const VHOST_USER_GET_VRING_BASE = 11;
export const VHOST_USER_SET_VRING_KICK = 12;
export const VHOST_USER_SET_VRING_CALL = 13;
export const VHOST_USER_SET_VRING_ERR = 14;
export const VHOST_USER_GET_PROTOCOL_FEATURES = 15;
export const VHOST_USER_SET_PROTOCOL_FEATURES = 16;
export const VHOST_USER_GET_QUEUE_NUM = 17;
export const VHOST_USER_SET_VRING_ENABLE = 18;
export const VHOST_USER_SET_BACKEND_REQ_FD = 21;
export const VHOST_USER_GET_CONFIG = 24;
export const VHOST_USER_SET_CONFIG = 25;
export const VHOST_USER_GET_INFLIGHT_FD = 31;
export const VHOST_USER_SET_INFLIGHT_FD = 32;
export const VHOST_USER_RESET_DEVICE = 34;
export const VHOST_USER_GET_MAX_MEM_SLOTS = 36;
export const VHOST_USER_ADD_MEM_REG = 37;
export const VHOST_USER_REM_MEM_REG = 38;

/** The one message that a backend sends on its own. */
export const VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2;

// Message header
export const HEADER_SIZE = 12;
export const VHOST_USER_VERSION = 1;
export const VHOST_USER_VERSION_MASK = 3;
export const VHOST_USER_REPLY_MASK = 4;
export const VHOST_USER_NEED_REPLY_MASK = 8;

/** Files with one message: those of a full memory table. */
export const MAX_MESSAGE_FDS = 8;
/** Bytes behind the header: the longest that there is, a whole configuration space. */
export const MAX_PAYLOAD = 272;

// Payloads of SET_VRING_KICK and the like
export const VHOST_USER_VRING_IDX_MASK = 0xff;
export const VHOST_USER_VRING_NOFD_MASK = 0x100;

/** In the flags of SET_VRING_ADDR: writes to the used ring are logged, too. */
export const VHOST_VRING_F_LOG = 1;

/** Regions of a memory table. */
export const MAX_TABLE_REGIONS = 8;
/** Regions that can be added one by one, as many as the reference takes. */
export const MAX_MEM_SLOTS = 32;

/** Bytes of a configuration space. */
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
export const CONFIG_HEADER_SIZE = 12;

// Feature bits that are no device's
export const VIRTIO_F_NOTIFY_ON_EMPTY = 24;
export const VHOST_F_LOG_ALL = 26;
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;
export const VIRTIO_F_VERSION_1 = 32;

// Protocol feature bits
export const VHOST_USER_PROTOCOL_F_MQ = 0;
export const VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1;
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
export const VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5;
export const VHOST_USER_PROTOCOL_F_CONFIG = 9;
export const VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12;
export const VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13;
export const VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15;

// Split virtqueues
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
export const VIRTQ_USED_F_NO_NOTIFY = 1;
export const VIRTQ_DESC_SIZE = 16;
/** Entries of a virtqueue. */
export const MAX_QUEUE_SIZE = 32768;
/** Buffers of one request, as many as the reference takes. */
export const MAX_CHAIN = 1024;

/** What 16-bit counters of a ring wrap at. */
export const WRAP = 0x1_0000;
