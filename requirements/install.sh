#!/bin/sh
# usage: install.sh VENV LOCK
# Brings VENV to exactly what LOCK says, every file checked against its hash. pip fetches only uv.
# Index mirrors are settings: pip's own (environment or `pip config`) are handed on to uv.
set -eu
venv=$1
lock=$2
python=$venv/bin/python

index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}}
if [ -z "$index" ]; then
    index=$("$python" -m pip config get global.index-url 2>/dev/null) || index=
fi
if [ -n "$index" ]; then
    export UV_DEFAULT_INDEX="$index" PIP_INDEX_URL="$index"
fi
if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
    export UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"
fi
if [ -n "${PIP_TRUSTED_HOST:-}" ]; then
    export UV_INSECURE_HOST="${UV_INSECURE_HOST:-$PIP_TRUSTED_HOST}"
fi
if [ -n "${PIP_CERT:-}" ]; then
    export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
fi

# torch's CPU build is not on the usual index: it lies in a folder or page that PIP_FIND_LINKS
# names, or uv asks PyTorch's own index. The lock's hash holds either way.
if [ -n "${PIP_FIND_LINKS:-}" ]; then
    UV_FIND_LINKS=$(printf '%s' "$PIP_FIND_LINKS" | tr ' ' ',')
    export UV_FIND_LINKS
    set --
else
    set -- --torch-backend cpu
fi

echo "installing the packages of $lock (the first time fetches about 1 GB)"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --only-binary :all: -r "$(dirname "$lock")/bootstrap.txt"
"$venv/bin/uv" pip sync --quiet --python "$python" --require-hashes "$@" "$lock" || {
    echo "The packages could not be installed. If the index is slow or out of reach, name a" \
        "mirror: PIP_INDEX_URL=... (and PIP_FIND_LINKS=... for torch's CPU build), then again." >&2
    exit 1
}
"$venv/bin/uv" --version >/dev/null 2>&1 || "$python" -m pip install --quiet \
    --disable-pip-version-check --no-deps --require-hashes -r "$(dirname "$lock")/bootstrap.txt"
