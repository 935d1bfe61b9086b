#!/bin/sh
# Puts the reference, the real clients and a Linux kernel for a guest in place for the tests, where that may be done. Never
# fails: a test whose program is missing is left out, and says so.
packages='qemu-system-common qemu-utils qemu-block-extra libnbd-bin python3-libnbd nbdkit fio gnutls-bin socat fuse3 xz-utils'
programs='qemu-storage-daemon qemu-img qemu-io nbdinfo nbdcopy nbdsh nbdkit fio socat fusermount3 xz'
# A guest's processor is this machine's, so that it can run this machine's programs.
if [ "$(uname -m)" = x86_64 ]; then
  packages="$packages qemu-system-x86 busybox-static e2fsprogs"
  programs="$programs qemu-system-x86_64 busybox"
fi
# These are only unpacked, here: an installed kernel would be for this machine to boot, an installed nbd-server would be started
# with the machine.
unpacked=${XDG_CACHE_HOME:-$HOME/.cache}/qmp-storage-daemon
guest_kernel=$unpacked/guest-kernel
nbd_server=$unpacked/nbd-server

install_programs() {
  missing=
  for program in $programs; do
    command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
  done
  [ -n "$missing" ] || return
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Not here:$missing. No apt-get to install them with; the tests that need them are left out." >&2
    return
  fi
  sudo=
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "Not here:$missing. Installing them needs root:" >&2
      echo "  sudo apt-get install --no-install-recommends $packages" >&2
      echo 'Until then the tests that need them are left out.' >&2
      return
    fi
    sudo='sudo -n'
  fi
  echo "Installing the reference and its clients (missing:$missing)" >&2
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # words of a list
  { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $packages; } >/dev/null ||
    echo 'The installation failed; the tests that need those programs are left out.' >&2
}

unpack_guest_kernel() {
  [ "$(uname -m)" = x86_64 ] && command -v apt-get >/dev/null 2>&1 || return
  ls "$guest_kernel"/boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1 && return
  ls /boot/vmlinuz-*-cloud-amd64 >/dev/null 2>&1 && return
  package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: *//p' | head -n 1)
  scratch=$(mktemp -d)
  echo "Unpacking a kernel for a guest (${package:-none found})" >&2
  (
    cd "$scratch" && chmod 755 . &&
      apt-get download -qq "$package" >/dev/null 2>&1 &&
      mkdir guest-kernel &&
      dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x -C guest-kernel --wildcards './boot/vmlinuz*' \
        '*/kernel/drivers/virtio/*' '*/kernel/drivers/block/virtio_blk.ko' &&
      mkdir -p "$(dirname "$guest_kernel")" &&
      rm -rf "$guest_kernel" && mv guest-kernel "$guest_kernel"
  ) || echo 'That failed; the tests that need a guest are left out.' >&2
  rm -rf "$scratch"
}

unpack_nbd_server() {
  command -v apt-get >/dev/null 2>&1 || return
  [ -x "$nbd_server/bin/nbd-server" ] && return
  command -v nbd-server >/dev/null 2>&1 && return
  scratch=$(mktemp -d)
  echo 'Unpacking nbd-server' >&2
  (
    cd "$scratch" && chmod 755 . &&
      apt-get download -qq nbd-server >/dev/null 2>&1 &&
      mkdir nbd-server &&
      dpkg-deb --fsys-tarfile nbd-server_*.deb | tar -x -C nbd-server --wildcards './*bin/nbd-server' &&
      nbd-server/bin/nbd-server -V >/dev/null 2>&1 &&
      mkdir -p "$unpacked" &&
      rm -rf "$nbd_server" && mv nbd-server "$nbd_server"
  ) || echo 'That failed; the tests that need nbd-server are left out.' >&2
  rm -rf "$scratch"
}

install_programs
unpack_guest_kernel
unpack_nbd_server
exit 0
