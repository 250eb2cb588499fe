#!/usr/bin/env bash
# Brings the programs that tests run beside the service (Prometheus with promtool, nginx) into DIR:
# links to those on PATH, else unpacked from Debian's packages. Nothing is installed in the system,
# no root is needed. What cannot be had is named and left out; the tests that need it are skipped.
#   tests/tools.sh DIR
set -euo pipefail
dir=$(realpath -m "$1" 2>/dev/null || echo "$PWD/$1") # realpath of a Mac has no -m
search="$PATH:/usr/local/sbin:/usr/sbin"
places=(usr/bin/prometheus usr/bin/promtool usr/sbin/nginx)

absent() { # the programs that DIR lacks, one a line
	for place in "${places[@]}"; do [ -x "$dir/$place" ] || echo "${place##*/}"; done
}

unpack() { # Debian's packages of the programs that DIR lacks
	local packages=() options=(-qq -o Dir::State::Lists="$dir/lists" -o APT::Sandbox::User= -o Debug::NoLocking=1)
	mapfile -t packages < <(absent | sed 's/promtool/prometheus/' | sort -u)
	mkdir -p "$dir/lists/partial" "$dir/debs"
	apt-get "${options[@]}" update &&
		(cd "$dir/debs" && apt-get "${options[@]}" download "${packages[@]}") &&
		for package in "$dir"/debs/*.deb; do dpkg --extract "$package" "$dir" || return; done
}

rm -rf "$dir"
mkdir -p "$dir/usr/bin" "$dir/usr/sbin"
for place in "${places[@]}"; do
	if found=$(PATH="$search" command -v "${place##*/}"); then ln -s "$found" "$dir/$place"; fi
done
if [ -n "$(absent)" ] && command -v apt-get >/dev/null; then
	unpack || echo "tests/tools.sh: Debian's packages could not be had" >&2
	rm -rf "$dir/lists" "$dir/debs"
fi
left=$(absent | tr '\n' ' ')
if [ -n "$left" ]; then
	echo "tests/tools.sh: no ${left}here; tests that need them are skipped" >&2
else
	touch "$dir/.installed" # else the next run looks again
fi
