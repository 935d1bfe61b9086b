/* The cheapest thing that can be called an NBD proxy, to measure the rate of ours against: it knows nothing of NBD, and moves bytes
 * between one client at a time and a server, large amounts by way of a pipe. usage: bare-pump SOCKET SERVER */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SIZE = 1 << 20, LARGE = 64 << 10 };

/* One direction. `held` bytes are received and not sent: in the pipe, or at `start` of the buffer. */
struct way {
  int from, to, pipe[2], in_pipe, was_large;
  size_t start, held;
  unsigned char buffer[SIZE];
};
static struct way up, down;

static int unix_socket(const char *path, int (*use)(int, const struct sockaddr *, socklen_t)) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  if (use(s, (struct sockaddr *)&address, sizeof address)) _exit(1);
  return s;
}

/* Moves what can be moved now. 0 at the end. */
static int move(struct way *w) {
  for (;;) {
    while (w->held) {
      ssize_t n = w->in_pipe ? splice(w->pipe[0], NULL, w->to, NULL, w->held, SPLICE_F_NONBLOCK)
                             : send(w->to, w->buffer + w->start, w->held, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0) return errno == EAGAIN;
      w->held -= n;
      w->start += n;
    }
    /* What comes next is taken for as large as what came last. */
    w->in_pipe = w->was_large;
    ssize_t n = w->in_pipe ? splice(w->from, NULL, w->pipe[1], NULL, SIZE, SPLICE_F_NONBLOCK)
                           : recv(w->from, w->buffer, SIZE, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    w->held = n;
    w->start = 0;
    w->was_large = n >= LARGE;
  }
}

static void begin(struct way *w, int from, int to) {
  w->from = from;
  w->to = to;
  w->held = w->was_large = 0;
  if (pipe2(w->pipe, O_NONBLOCK)) _exit(1);
  fcntl(w->pipe[1], F_SETPIPE_SZ, SIZE);
}

static void end(struct way *w) {
  close(w->pipe[0]);
  close(w->pipe[1]);
}

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  int listener = unix_socket(argv[1], bind);
  if (listen(listener, 16)) return 1;
  for (;;) {
    int client = accept(listener, NULL, NULL);
    int server = unix_socket(argv[2], connect);
    begin(&up, client, server);
    begin(&down, server, client);
    do {
      struct pollfd both[] = {
        { client, (up.held ? 0 : POLLIN) | (down.held ? POLLOUT : 0), 0 },
        { server, (down.held ? 0 : POLLIN) | (up.held ? POLLOUT : 0), 0 },
      };
      poll(both, 2, -1);
    } while (move(&up) && move(&down));
    end(&up);
    end(&down);
    close(client);
    close(server);
  }
}
