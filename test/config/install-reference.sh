#!/bin/sh
# Puts the reference and the real clients in place for the tests, where that may be done. Never fails: a test whose program
# is missing is left out, and says so.
packages='qemu-system-common qemu-utils qemu-block-extra libnbd-bin python3-libnbd nbdkit fio gnutls-bin socat'
programs='qemu-storage-daemon qemu-img qemu-io nbdinfo nbdcopy nbdsh nbdkit fio socat'
missing=
for program in $programs; do
  command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "Not here:$missing. No apt-get to install them with; the tests that need them are left out." >&2
  exit 0
fi
sudo=
if [ "$(id -u)" != 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    echo "Not here:$missing. Installing them needs root:" >&2
    echo "  sudo apt-get install --no-install-recommends $packages" >&2
    echo 'Until then the tests that need them are left out.' >&2
    exit 0
  fi
  sudo='sudo -n'
fi
echo "Installing the reference and its clients (missing:$missing)" >&2
export DEBIAN_FRONTEND=noninteractive
{ $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $packages; } >/dev/null ||
  echo 'The installation failed; the tests that need those programs are left out.' >&2
exit 0
