# To be sourced by scripts that unpack packages: an apt that knows one source, keeps all it has below "$target/apt", needs no root
# and changes nothing elsewhere. They have set `target`, a folder of their own, and `without`, what is left out without it.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Gives up, for the reason $1.
leave() {
  echo "$1; $without left out." >&2
  rm -rf "$target"
  exit 0
}

command -v apt-get >/dev/null 2>&1 && [ -r "$keyring" ] || leave 'No apt-get that knows Debian'

# Begins with an empty folder; packages of the kind $1 (deb or deb-src) of the release $2.
begin_apt() {
  rm -rf "$target"
  mkdir -p "$target/apt/lists/partial" "$target/apt/cache/archives/partial"
  echo "$1 [signed-by=$keyring] http://deb.debian.org/debian $2 main" >"$target/apt/sources.list"
  : >"$target/apt/status"
  apt update || leave 'No list of packages'
}

apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$target/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$target/apt/lists" -o Dir::State::status="$target/apt/status" \
    -o Dir::Cache="$target/apt/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1 \
    -o Acquire::http::Timeout=20 -o Acquire::Retries=1 "$@" >/dev/null
}
