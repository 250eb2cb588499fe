#!/usr/bin/env bash
# Unpacks the programs that tests run beside the service (Prometheus with promtool, nginx)
# from Debian's packages into DIR. Nothing is installed in the system, no root is needed.
#   tests/tools.sh DIR
set -euo pipefail
dir=$(realpath -m "$1")
packages=(prometheus nginx)

command -v apt-get >/dev/null || {
	echo "tests/tools.sh: needs Debian's apt-get; unpack ${packages[*]} into $dir yourself" >&2
	exit 1
}
rm -rf "$dir"
mkdir -p "$dir/lists/partial" "$dir/debs"
options=(-qq -o Dir::State::Lists="$dir/lists" -o APT::Sandbox::User= -o Debug::NoLocking=1)
apt-get "${options[@]}" update
(cd "$dir/debs" && apt-get "${options[@]}" download "${packages[@]}")
for package in "$dir"/debs/*.deb; do
	dpkg --extract "$package" "$dir"
done
rm -rf "$dir/lists" "$dir/debs"
