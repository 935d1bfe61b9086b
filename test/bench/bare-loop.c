/* The cheapest thing that can be called an NBD server, to measure the processor time of ours against: one client, no checks,
 * a loop of recv, pread or pwrite, and send. usage: bare-loop SOCKET FILE */
#define _GNU_SOURCE
#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { INPUT = 1 << 20, OUTPUT = 4 << 20 };
static unsigned char input[INPUT], output[OUTPUT];

static uint32_t u32(const unsigned char *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static uint64_t u64(const unsigned char *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }
static void put32(unsigned char *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static void put64(unsigned char *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }

static int exactly(int s, unsigned char *p, size_t n) {
  while (n) { ssize_t r = recv(s, p, n, 0); if (r <= 0) return 0; p += r; n -= r; }
  return 1;
}
static int all(int s, const unsigned char *p, size_t n) {
  while (n) { ssize_t r = send(s, p, n, MSG_NOSIGNAL); if (r <= 0) return 0; p += r; n -= r; }
  return 1;
}

static int handshake(int s, uint64_t size) {
  unsigned char head[20];
  memcpy(head, "NBDMAGICIHAVEOPT", 16);
  head[16] = 0; head[17] = 3;
  if (!all(s, head, 18) || !exactly(s, head, 4)) return 0;
  for (;;) {
    if (!exactly(s, head, 16)) return 0;
    uint32_t option = u32(head + 8), length = u32(head + 12);
    if (length > INPUT || !exactly(s, input, length)) return 0;
    unsigned char reply[32];
    put64(reply, 0x3e889045565a9ULL);
    put32(reply + 8, option);
    if (option == 7 || option == 6) {
      put32(reply + 12, 3); put32(reply + 16, 12);
      reply[20] = reply[21] = 0;
      put64(reply + 22, size);
      reply[30] = 1; reply[31] = 0x0d; /* flags: HAS_FLAGS, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN */
      if (!all(s, reply, 32)) return 0;
      put32(reply + 12, 1); put32(reply + 16, 0);
      if (!all(s, reply, 20)) return 0;
      if (option == 7) return 1;
    } else {
      put32(reply + 12, 0x80000001); put32(reply + 16, 0);
      if (!all(s, reply, 20)) return 0;
    }
  }
}

static void transmission(int s, int file) {
  size_t have = 0;
  for (;;) {
    ssize_t r = recv(s, input + have, INPUT - have, 0);
    if (r <= 0) return;
    have += r;
    size_t at = 0, out = 0;
    while (have - at >= 28) {
      unsigned char *request = input + at;
      unsigned type = request[7];
      uint64_t offset = u64(request + 16);
      uint32_t length = u32(request + 24);
      if (type == 2) return;
      if (type == 1 && have - at < 28 + (size_t)length) break;
      size_t need = 16 + (type == 0 ? length : 0);
      if (out + need > OUTPUT) { if (!all(s, output, out)) return; out = 0; }
      put32(output + out, 0x67446698);
      put32(output + out + 4, 0);
      memcpy(output + out + 8, request + 8, 8);
      if (type == 0 && pread(file, output + out + 16, length, offset) < 0) return;
      if (type == 1 && pwrite(file, request + 28, length, offset) < 0) return;
      if (type == 3) fdatasync(file);
      out += need;
      at += 28 + (type == 1 ? length : 0);
    }
    if (out && !all(s, output, out)) return;
    memmove(input, input + at, have - at);
    have -= at;
  }
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  int listening = socket(AF_UNIX, SOCK_STREAM, 0), file = open(argv[2], O_RDWR);
  struct stat st;
  if (file < 0 || fstat(file, &st)) return 1;
  unlink(argv[1]);
  if (bind(listening, (struct sockaddr *)&address, sizeof address) || listen(listening, 16)) return 1;
  for (;;) {
    int s = accept(listening, NULL, NULL);
    if (s < 0) return 1;
    if (handshake(s, st.st_size)) transmission(s, file);
    close(s);
  }
}
