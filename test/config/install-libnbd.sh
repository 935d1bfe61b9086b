#!/bin/sh
# Unpacks a libnbd that speaks NBD's extended headers (1.18 and later, from Debian 13) with all that it needs beside the system's
# own, in .cache/libnbd of the checkout. Needs no root and changes nothing outside. Never fails: the tests are left out then.
version='Debian 13'
cd "$(dirname "$0")/../.." || exit 0
target="$PWD/.cache/libnbd"
[ ! -x "$target/bin/nbdinfo" ] || exit 0
without="the tests with libnbd of $version are"
. test/config/private-apt.sh
case "$(dpkg --print-architecture)" in
  amd64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 ;;
  arm64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 ;;
  *) leave 'Neither amd64 nor arm64' ;;
esac
echo "Unpacking libnbd of $version" >&2
begin_apt deb trixie
mkdir -p "$target/root" "$target/bin"
apt install -y --no-install-recommends --download-only libnbd-bin python3-libnbd || leave 'No packages'
for package in "$target"/apt/cache/archives/*.deb; do
  case "${package##*/}" in
    lib* | python3* | zlib1g*) dpkg-deb -x "$package" "$target/root" || leave 'Unpacking failed' ;;
  esac
done
rm -rf "$target/apt"
root="$target/root"
libraries="$root/usr/lib/$triplet"
wrap() {
  {
    echo '#!/bin/sh'
    [ "$1" = "$2" ] || echo "export PYTHONHOME='$root/usr' PYTHONPATH='$root/usr/lib/python3/dist-packages'"
    echo "exec '$libraries/$loader' --library-path '$libraries' '$root/usr/bin/$2' \"\$@\""
  } >"$target/bin/$1"
  chmod +x "$target/bin/$1"
}
wrap nbdcopy nbdcopy
wrap python3 "$(basename "$root"/usr/bin/python3.*[0-9])"
# The last one: with it everything is in place.
wrap nbdinfo nbdinfo
"$target/bin/nbdinfo" --version >/dev/null 2>&1 || leave 'What was unpacked does not run'
exit 0
