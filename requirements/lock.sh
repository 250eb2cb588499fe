#!/usr/bin/env bash
# Writes requirements/*.lock: for every Python that pyproject.toml declares, x86-64 and arm64.
#   requirements/lock.sh UV            takes the newest releases
#   requirements/lock.sh UV --no-upgrade   keeps what is pinned, as far as it fits
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$1
upgrade=${2:---upgrade}
pythons=(3.11 3.12 3.13 3.14)
platforms=(x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin)

compile() {
	local lock=requirements/$1.lock
	shift
	echo "$lock"
	"$uv" pip compile --quiet --no-config --universal --python-version "${pythons[0]}" \
		--generate-hashes --annotation-style line --custom-compile-command 'make lock' "$upgrade" --output-file "$lock" "$@"
}
extras() {
	printf -- '--extra %s ' "$@"
}

# the first has all that the others have, so that no two differ in what both hold
# shellcheck disable=SC2046
{
	compile test pyproject.toml --constraint requirements/held.txt \
		$(extras cpu openvino fast tracing export load dev)
	compile serve pyproject.toml --constraint requirements/test.lock $(extras cpu fast tracing)
	compile gpu pyproject.toml requirements/cuda.in --constraint requirements/test.lock \
		$(extras gpu fast tracing)
	compile locust pyproject.toml --constraint requirements/test.lock $(extras load)
	compile clients tests/clients/requirements.txt
}

# what serves is installed without a compiler
export MACOSX_DEPLOYMENT_TARGET=14.0
for python in "${pythons[@]}"; do
	for platform in "${platforms[@]}"; do
		"$uv" pip install --quiet --no-config --dry-run --target /nonexistent --only-binary :all: \
			--python-version "$python" --python-platform "$platform" --requirement requirements/serve.lock
		echo "Python $python on $platform: every package of serve.lock has a wheel"
	done
done
